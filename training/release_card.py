"""The model card of a release, as Markdown."""

from __future__ import annotations

from bot.releases import Release
from training.gate import Verdict

_ROWS = ("style", "facts", "citation_hit", "citation_precision", "abstention")


def write_card(release: Release, verdict: Verdict | None) -> str:
    """Say what the release is, what it was trained on, what the gate found, and how to make it again."""
    lines = [
        f"# {release.name}",
        "",
        f"A LoRA adapter for {release.base_model}, recipe {release.recipe}, made by `tandem train` on "
        f"{release.created_at[:10]}. It carries manners: tone, form, and the habit of answering from what it is shown. "
        "Facts come from retrieval.",
        "",
        "| | |",
        "| --- | --- |",
        f"| base model | {release.base_model} ({release.base_digest}) |",
        f"| adapter, SHA-256 | {_cell(release.adapter_sha256)} |",
        f"| data set | {_cell(release.data_hash)} |",
        f"| prompt fingerprint | {release.fingerprint} |",
        f"| compared with | {', '.join(release.parents) or 'the base model'} |",
        *(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in sorted(release.settings.items())),
        "",
        "## Gate",
        "",
        verdict.verdict if verdict else "Not gated.",
    ]
    if verdict and verdict.candidate:
        lines += ["", "| metric | this release | before | difference |", "| --- | --- | --- | --- |"]
        for name in _ROWS:
            after, change = verdict.candidate[name], verdict.differences.get(name)
            before = verdict.current[name] if verdict.current else None
            if after.value is not None and before and before.value is not None and change and change.value is not None:
                low, high = (change.low or 0) * 100, (change.high or 0) * 100
                lines.append(
                    f"| {name.replace('_', ' ')} | {after.value:.1%} | {before.value:.1%} | "
                    f"{change.value * 100:+.1f} points ({low:+.1f} to {high:+.1f}) |"
                )
        lines += ["", "Compared are the cases that a metric applies to on both sides: only answers have a precision."]
    return "\n".join([*lines, ""])


def _cell(value: object) -> str:
    return "-" if value is None else str(value).replace("|", "\\|")
