"""OpenAI's own client against the running server: what people's programs will do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.bot.conftest import Live
from tests.bot.world import CLOSING, asked

QUESTION = "How do I export my data?"


@pytest.fixture
def maria(live: Live) -> Iterator[openai.OpenAI]:
    token = httpx.post(f"{live.url}/demo/sign-in", json={"customer_id": "cus_42"}).json()["token"]
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key=token, max_retries=0) as client:
        yield client


def streamed(client: openai.OpenAI, question: str, **options: Any) -> tuple[list[str], dict[str, Any]]:
    stream = client.chat.completions.create(
        model="tandem", messages=[{"role": "user", "content": question}], stream=True, **options
    )
    chunks = list(stream)
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    return pieces, chunks[-1].model_extra["tandem"]


def test_a_streamed_conversation_of_two_turns(live: Live, maria: openai.OpenAI) -> None:
    pieces, extra = streamed(maria, QUESTION)
    text = "".join(pieces)
    assert len(pieces) > 3
    assert text.startswith("Hi Maria,") and text.endswith(CLOSING)
    assert extra["action"] == "answer"
    assert [c["n"] for c in extra["citations"]] == [1, 2]
    assert extra["citations"][0]["document"] == "features/export-data.md"

    metadata = {"conversation_id": extra["conversation_id"]}
    _, second = streamed(maria, "And as JSON?", metadata=metadata)
    assert second["conversation_id"] == extra["conversation_id"]
    assert second["turn_id"] != extra["turn_id"]
    prompt = live.model.asked[-1]
    assert [m.content for m in prompt[1:-1]] == [QUESTION, text]
    assert asked(prompt).endswith("Question: And as JSON?")


def test_a_whole_reply_and_its_usage(maria: openai.OpenAI) -> None:
    messages: Any = [{"role": "system", "content": "Speak like a pirate."}, {"role": "user", "content": QUESTION}]
    reply = maria.chat.completions.create(model="tandem-rag", messages=messages)
    assert str(reply.choices[0].message.content).startswith("Hi Maria,")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None and reply.usage.total_tokens > 0
    assert reply.model_extra is not None and reply.model_extra["tandem"]["mode"] == "rag"


def test_the_usage_comes_with_the_last_chunk_where_asked_for(maria: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "I want a human"}]
    *_, last = maria.chat.completions.create(
        model="tandem", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage is not None and last.usage.completion_tokens == 0
    assert last.model_extra is not None and last.model_extra["tandem"]["action"] == "handoff"


def test_the_models_are_listed(maria: openai.OpenAI) -> None:
    assert [m.id for m in maria.models.list()] == ["tandem", "tandem-rag", "tandem-finetuned", "tandem-prompt"]


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_openais_classes(live: Live, maria: openai.OpenAI, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    with pytest.raises(openai.NotFoundError, match="gpt-5") as unknown:
        maria.chat.completions.create(model="gpt-5", messages=messages, stream=stream)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="empty"):
        maria.chat.completions.create(model="tandem", messages=[{"role": "user", "content": " "}], stream=stream)
    with pytest.raises(openai.NotFoundError) as conversation:
        maria.chat.completions.create(
            model="tandem", messages=messages, stream=stream, metadata={"conversation_id": "conv_x"}
        )
    assert conversation.value.code == "conversation_not_found"
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="wrong", max_retries=0) as nobody:
        with pytest.raises(openai.AuthenticationError):
            nobody.chat.completions.create(model="tandem", messages=messages, stream=stream)


def test_a_visitor_gives_anonymous_as_the_key(live: Live) -> None:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="anonymous", max_retries=0) as client:
        pieces, extra = streamed(client, QUESTION)
    assert "".join(pieces).startswith("Hi,")
    assert extra["action"] == "answer"
    assert "Customer record" not in asked(live.model.asked[-1])
