"""Prometheus metrics of one server process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.answer import Answer

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Count answers and time their parts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("tandem_answers", "Answers given.", ["mode", "action"], registry=self._registry)
        self._feedback = Counter("tandem_feedback", "Ratings received.", ["rating"], registry=self._registry)
        self._parts = Histogram(
            "tandem_answer_seconds", "Time to each part.", ["part"], registry=self._registry, buckets=_SECONDS
        )
        self._tokens = Counter("tandem_tokens", "Tokens read and written.", ["kind"], registry=self._registry)
        self._age = Gauge("tandem_knowledge_age_seconds", "Age of the current generation.", registry=self._registry)

    def observe(self, answer: Answer) -> None:
        """Count one answer."""
        self._answers.labels(answer.mode, answer.action).inc()
        for part, value in answer.milliseconds.items():
            self._parts.labels(part).observe(value / 1000)
        for kind, count in answer.usage.items():
            self._tokens.labels(kind.removesuffix("_tokens")).inc(count)

    def rated(self, rating: str) -> None:
        """Count one rating."""
        self._feedback.labels(rating).inc()

    def render(self, readiness: dict[str, Any]) -> tuple[bytes, str]:
        """Return the text that Prometheus reads, and its content type."""
        updated = readiness["knowledge_updated_at"]
        if updated:
            age = datetime.now(UTC) - datetime.fromisoformat(updated)
            self._age.set(age.total_seconds())
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
