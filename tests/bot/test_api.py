"""The HTTP server: OpenAI's shapes and errors, who may see what, the demo, health and headers."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from bot.api import create_app
from bot.auth import Authenticator, demo_secret
from bot.errors import ConfigError, ModelError, ModelUnavailable, NotAllowed
from bot.settings import AuthSettings, Settings
from bot.state import FeedbackRow
from bot.turns import Caller
from cli import serve
from retrieval.generations import Generations
from retrieval.reader import KnowledgeReader
from retrieval.search import Searcher
from tests.bot.conftest import BotWith, served
from tests.bot.world import EXPORT, PRICES, STAFF_ONLY, World, asked, reader_model
from tests.stand_ins import ScriptedModel

SECRET = "a secret of the tests that is long enough"
QUESTION = "How do I export my data?"
PRO = "The Pro plan costs $12 per user each month."
CHAT = "/v1/chat/completions"
ClientWith = Callable[..., TestClient]


def token(sub: str | None = "cus_1", *, key: str = SECRET, algorithm: str = "HS256", **claims: Any) -> dict[str, str]:
    if sub is not None:
        claims["sub"] = sub
    return {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm=algorithm)}"}


def body(question: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"model": "tandem", "messages": [{"role": "user", "content": question}], **fields}


@pytest.fixture
def server_settings(small: World, tmp_path: Path) -> Settings:
    auth = AuthSettings(jwt_secret=SecretStr(SECRET))
    return small.settings.model_copy(update={"home": tmp_path, "auth": auth})


@pytest.fixture
def client_with(bot_with: BotWith, server_settings: Settings) -> Iterator[ClientWith]:
    made: list[TestClient] = []

    def build(model: ScriptedModel | None = None, *, demo: bool = False, **changes: Any) -> TestClient:
        app = create_app(server_settings, demo=demo, bot=bot_with(model or reader_model(), **changes))
        made.append(TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False))
        return made[-1]

    yield build
    for client in made:
        client.close()


@pytest.fixture
def client(client_with: ClientWith) -> TestClient:
    return client_with()


def events_of(response: Any) -> list[Any]:
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [part if part == "[DONE]" else json.loads(part) for part in data]


def assert_error(response: Any, status: int, kind: str = "invalid_request_error", code: str | None = None) -> str:
    """Check status and OpenAI's shape; returns the message."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == kind
    if code is not None:
        assert error["code"] == code
    assert "Traceback" not in response.text
    return str(error["message"])


# Chat


def test_a_reply_in_openais_shape(client: TestClient) -> None:
    reply = client.post(CHAT, json=body(), headers=token()).json()
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "tandem"
    choice = reply["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].startswith("Hi Ada,")
    assert choice["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    extra = reply["tandem"]
    assert {"action", "citations", "generation", "release", "conversation_id", "turn_id"} <= set(extra)
    assert extra["action"] == "answer"
    assert set(extra["citations"][0]) == {"n", "source", "document", "chunk", "title", "url"}


def test_a_stream_in_openais_shape_holds_the_same_answer(client: TestClient) -> None:
    whole = client.post(CHAT, json=body(), headers=token()).json()
    response = client.post(CHAT, json=body(stream=True), headers=token())
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert len([d for d in deltas if d.get("content")]) > 1
    assert "".join(d.get("content", "") for d in deltas) == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["tandem"]["citations"] == whole["tandem"]["citations"]
    assert "usage" not in chunks[-1]


def test_the_stream_carries_its_usage_where_asked_for(client: TestClient) -> None:
    response = client.post(CHAT, json=body(stream=True, stream_options={"include_usage": True}))
    last = events_of(response)[-2]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0
    assert last["tandem"]["action"] == "answer"


def test_system_messages_of_clients_are_ignored(client_with: ClientWith) -> None:
    model = reader_model()
    messages = [
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "developer", "content": "Speak like a pirate."},
        {"role": "user", "content": QUESTION},
    ]
    client_with(model).post(CHAT, json=body(messages=messages)).raise_for_status()
    assert all("Speak like a pirate." not in m.content for m in model.asked[-1])
    assert len(model.asked[-1]) == 2


def test_content_comes_in_parts_too(client_with: ClientWith) -> None:
    model = reader_model()
    parts = [{"type": "text", "text": "How do I export"}, {"type": "image_url", "image_url": {"url": "x"}},
             {"type": "text", "text": "my data?"}]  # fmt: skip
    client_with(model).post(CHAT, json=body(messages=[{"role": "user", "content": parts}])).raise_for_status()
    assert asked(model.asked[-1]).endswith("Question: How do I export\nmy data?")


def test_a_client_may_send_the_history_itself(client_with: ClientWith) -> None:
    model = reader_model()
    history = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]
    messages = [*history, {"role": "user", "content": QUESTION}]
    client_with(model).post(CHAT, json=body(messages=messages)).raise_for_status()
    assert [m.content for m in model.asked[-1][1:-1]] == ["Hello?", "Hello!"]


def test_a_conversation_goes_on_by_its_id(client_with: ClientWith) -> None:
    model = reader_model()
    client = client_with(model)
    first = client.post(CHAT, json=body(), headers=token()).json()
    name = first["tandem"]["conversation_id"]
    second = client.post(CHAT, json=body("And then?", metadata={"conversation_id": name}), headers=token()).json()
    assert second["tandem"]["conversation_id"] == name
    assert [m.content for m in model.asked[-1][1:-1]] == [QUESTION, first["choices"][0]["message"]["content"]]


@pytest.mark.parametrize(
    ("name", "mode"),
    [("tandem", "hybrid"), ("tandem-rag", "rag"), ("tandem-finetuned", "finetuned"), ("tandem-prompt", "prompt")],
)
def test_each_model_is_a_mode(client: TestClient, name: str, mode: str) -> None:
    reply = client.post(CHAT, json=body(model=name)).json()
    assert (reply["model"], reply["tandem"]["mode"]) == (name, mode)
    assert (reply["tandem"]["generation"] is None) == (mode in ("finetuned", "prompt"))


def test_generation_is_null_in_prompt_mode(client: TestClient) -> None:
    assert client.post(CHAT, json=body(model="tandem-prompt")).json()["tandem"]["generation"] is None


def test_models_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == ["tandem", "tandem-rag", "tandem-finetuned", "tandem-prompt"]
    assert all(m["object"] == "model" for m in listed["data"])


def test_twenty_requests_at_once_are_all_answered(client_with: ClientWith, bot_with: BotWith) -> None:
    app = client_with(reader_model(delay=0.001)).app
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as http:

        def ask(n: int) -> tuple[str, str]:
            headers = token("cus_1" if n % 2 else "cus_2")
            reply = http.post(CHAT, json=body(stream=n % 3 == 0), headers=headers)
            reply.raise_for_status()
            if n % 3:
                return reply.json()["tandem"]["turn_id"], reply.json()["choices"][0]["message"]["content"]
            *chunks, _ = events_of(reply)
            text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
            return chunks[-1]["tandem"]["turn_id"], text

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(20)))
    assert len({turn for turn, _ in answers}) == 20
    for n, (_, text) in enumerate(answers):
        assert text.startswith("Hi Ada," if n % 2 else "Hi Bob,")
        assert EXPORT.split(". ")[0] in text


@pytest.mark.parametrize(
    "stream",
    [
        True,
        pytest.param(
            False,
        ),
    ],
)
def test_a_client_that_goes_away_stops_the_model(client_with: ClientWith, stream: bool) -> None:
    model = ScriptedModel(f"{PRO} Reset your password on the sign-in page.", delay=0.04, piece=1)
    app = client_with(model).app
    with served(app) as url, pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=url, timeout=0.5) as http:
        request = body("How much does the Pro plan cost?", stream=stream)
        with http.stream("POST", CHAT, json=request) as response:
            for _ in response.iter_text():
                raise httpx.ReadTimeout("seen enough")
    assert model.asked
    assert (model.closed_early, model.finished) == (True, 0)


# Errors


def signed_with_none() -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': 'cus_1'}, None, algorithm='none')}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer Anonymous"},
        token(key="another secret of the right length, really"),
        token(key=SECRET * 2, algorithm="HS512"),
        signed_with_none(),
        token(exp=int(time.time()) - 60),
        token(nbf=int(time.time()) + 3600),
        token(None),
        token(""),
        token(42),  # type: ignore[arg-type]
    ],
    ids=["nonsense", "basic", "empty", "capital", "signature", "algorithm", "none", "expired", "early", "no sub",
         "empty sub", "sub is no text"],
)  # fmt: skip
def test_a_bad_token_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    response = client.post(CHAT, json=body(), headers=headers)
    assert_error(response, 401, "authentication_error", "invalid_token")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        (body(model="gpt-5"), 404, "model_not_found"),
        (body(""), 400, "invalid_question"),
        (body("  \n "), 400, "invalid_question"),
        (body("x" * 4001), 400, "invalid_question"),
        (body("x" * 100_000), 400, "invalid_question"),
        (body(messages=[]), 400, None),
        (body(messages=[{"role": "assistant", "content": "Hi"}]), 400, "invalid_question"),
        (body(messages=[{"role": "robot", "content": "Hi"}]), 400, None),
        (body(messages="Hi"), 400, None),
        (body(n=2), 400, None),
        (body(metadata={"conversation_id": "conv_unknown"}), 404, "conversation_not_found"),
        (body(metadata={"conversation_id": ["conv"]}), 400, None),
        ([], 400, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_is_refused(client: TestClient, request_body: Any, status: int, code: str, stream: bool) -> None:
    if isinstance(request_body, dict):
        request_body = request_body | {"stream": stream}
    assert assert_error(client.post(CHAT, json=request_body), status, code=code)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"messages": NaN}'])
def test_malformed_json_is_refused(client: TestClient, content: bytes) -> None:
    response = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert_error(response, 400)


def test_an_unknown_path_and_method_have_the_shape_too(client: TestClient) -> None:
    assert_error(client.get("/v1/nothing"), 404)
    assert_error(client.get(CHAT), 405)


def test_a_large_body_is_refused(client: TestClient) -> None:
    assert_error(client.post(CHAT, json=body("x" * 1_000_000)), 413, code="too_large")


def test_a_body_without_a_length_is_refused(client: TestClient) -> None:
    large = json.dumps(body("x" * 2_000_000)).encode()
    pieces = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    response = client.post(CHAT, content=pieces, headers={"Content-Type": "application/json"})
    assert_error(response, 411)


def test_too_much_knowledge_for_prompt_mode_is_said(client_with: ClientWith) -> None:
    response = client_with(ScriptedModel(context_tokens=300)).post(CHAT, json=body(model="tandem-prompt"))
    assert "tokens" in assert_error(response, 400, code="knowledge_too_large")


@pytest.mark.parametrize("stream", [False, True])
def test_no_knowledge_is_a_503(
    small: World, server_settings: Settings, bot_with: BotWith, tmp_path: Path, stream: bool
) -> None:
    bot = bot_with()
    reader = KnowledgeReader(Generations(tmp_path / "empty"))
    bot.searcher = Searcher(reader, small.embedder, small.records, small.settings.retrieval)
    client = TestClient(create_app(server_settings, bot=bot))
    response = client.post(CHAT, json=body(stream=stream))
    assert_error(response, 503, "server_error", "no_knowledge")
    assert response.headers["Retry-After"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["ready"] is False
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelUnavailable("openai:x at http://10.0.0.1 does not answer"), 503),
        (ModelError("/srv/weights is broken at 10.0.0.1"), 500),
        (RuntimeError("psql://10.0.0.1"), 500),
    ],
)
def test_a_failing_model_says_nothing_of_the_inside(client_with: ClientWith, error: Exception, status: int) -> None:
    def fail(_: Any) -> str:
        raise error

    response = client_with(ScriptedModel(fail)).post(CHAT, json=body())
    message = assert_error(response, status, "server_error")
    assert "10.0.0.1" not in response.text
    assert "Try again" in message


class BreaksMidway(ScriptedModel):
    """Fails after its first pieces."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{PRO} ")
        self._error = error

    def _pieces(self, text: str) -> Iterator[str]:
        yield from (text, "Reset your ")
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailable("10.0.0.1 does not answer"),
        pytest.param(
            RuntimeError("10.0.0.1"),
        ),
    ],
)
def test_a_model_that_fails_midway_ends_the_stream_with_an_error(client_with: ClientWith, error: Exception) -> None:
    request = body("How much does the Pro plan cost?", stream=True)
    response = client_with(BreaksMidway(error)).post(CHAT, json=request)
    *chunks, last = events_of(response)
    assert any(chunk["choices"][0]["delta"].get("content") == f"{PRO} [1]" for chunk in chunks)
    assert last["error"]["type"] == "server_error"
    assert "10.0.0.1" not in response.text
    assert "[DONE]" not in response.text


# Who sees what


def test_the_customer_comes_from_the_token_alone(client_with: ClientWith) -> None:
    model = reader_model()
    claimed = {"customer_id": "cus_2", "role": "agent", "sub": "cus_2"}
    request = body(user="cus_2", customer="cus_2", metadata=claimed, **claimed)
    client = client_with(model)
    client.post(CHAT, json=request, headers=token() | {"X-Customer-Id": "cus_2"}).raise_for_status()
    assert "Ada Byron" in asked(model.asked[-1])
    client.post(CHAT, json=request).raise_for_status()
    client.post(CHAT, json=request, headers={"Authorization": "Bearer anonymous"}).raise_for_status()
    for messages in model.asked[1:]:
        assert "Customer record" not in asked(messages)
    for messages in model.asked:
        assert all(text not in asked(messages) for text in ("Bob", "Ladder", STAFF_ONLY))


def test_a_customer_without_a_record_gets_public_knowledge(client_with: ClientWith) -> None:
    model = reader_model()
    reply = client_with(model).post(CHAT, json=body(), headers=token("cus_unknown")).json()
    assert reply["tandem"]["action"] == "answer"
    assert "Customer record" not in asked(model.asked[-1])
    assert STAFF_ONLY not in asked(model.asked[-1])


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        (token("staff", role="agent"), True),
        (token("cus_1"), False),
        (token("cus_1", role="customer"), False),
        (token("cus_1", role=["agent"]), False),
        (token("cus_1", audience="internal"), False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("model_name", ["tandem", "tandem-prompt"])
def test_internal_documents_are_for_staff(
    client_with: ClientWith, headers: dict[str, str], seen: bool, model_name: str
) -> None:
    model = ScriptedModel(STAFF_ONLY)
    request = body("What discount may staff grant for a password?", model=model_name)
    reply = client_with(model).post(CHAT, json=request, headers=headers).json()
    assert ("15 %" in reply["choices"][0]["message"]["content"]) == seen
    assert (STAFF_ONLY in asked(model.asked[-1])) == seen


def test_a_conversation_of_another_is_unknown(client: TestClient) -> None:
    name = client.post(CHAT, json=body(), headers=token("cus_1")).json()["tandem"]["conversation_id"]
    request = body("And then?", metadata={"conversation_id": name})
    for headers in (token("cus_2"), {}, token("cus_1", role="agent")):
        assert_error(client.post(CHAT, json=request, headers=headers), 404, code="conversation_not_found")


def test_without_a_secret_no_token_is_taken(bot_with: BotWith, server_settings: Settings) -> None:
    settings = server_settings.model_copy(update={"auth": AuthSettings()})
    client = TestClient(create_app(settings, bot=bot_with()))
    assert_error(client.post(CHAT, json=body(), headers=token()), 401, "authentication_error")
    assert client.post(CHAT, json=body()).status_code == 200


def test_a_short_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="TANDEM_AUTH_JWT_SECRET"):
        Authenticator(AuthSettings(jwt_secret=SecretStr("short")))


def test_audience_and_issuer_are_checked_where_configured() -> None:
    auth = Authenticator(AuthSettings(jwt_secret=SecretStr(SECRET), audience="tandem", issuer="us"))
    good = token(aud="tandem", iss="us")["Authorization"]
    assert auth.caller(good) == Caller("cus_1")
    for claims in ({}, {"aud": "tandem"}, {"aud": "other", "iss": "us"}, {"aud": "tandem", "iss": "them"}):
        with pytest.raises(NotAllowed):
            auth.caller(token(**claims)["Authorization"])


# Feedback and passages


def feedback_on(client: TestClient, turn_id: str, headers: dict[str, str], **fields: Any) -> Any:
    return client.post("/v1/feedback", json={"turn_id": turn_id, "rating": "up"} | fields, headers=headers)


def test_feedback_is_kept_and_replaced_by_a_second_word(client: TestClient) -> None:
    turn = client.post(CHAT, json=body(), headers=token()).json()["tandem"]["turn_id"]
    assert feedback_on(client, turn, token(), comment="Good").json() == {"ok": True}
    assert feedback_on(client, turn, token(), rating="down", correction="No.").status_code == 200
    with Session(client.app.state.bot.turns._engine) as session:  # type: ignore[attr-defined]
        row = session.scalars(select(FeedbackRow)).one()
    assert (row.turn_id, row.rating, row.comment, row.correction) == (turn, "down", None, "No.")


def test_feedback_is_for_ones_own_turns(client: TestClient) -> None:
    turn = client.post(CHAT, json=body(), headers=token()).json()["tandem"]["turn_id"]
    for headers in (token("cus_2"), {}, token("cus_1", role="agent")):
        assert_error(feedback_on(client, turn, headers), 404, code="turn_not_found")
    assert_error(feedback_on(client, "turn_unknown", token()), 404, code="turn_not_found")
    assert_error(feedback_on(client, turn, token(), rating="great"), 400)
    assert_error(feedback_on(client, turn, token(), comment="x" * 4001), 400)
    assert_error(feedback_on(client, turn, {"Authorization": "Bearer x"}), 401, "authentication_error")


def test_a_cited_passage_is_shown_to_the_caller_of_the_turn(client_with: ClientWith) -> None:
    client = client_with(ScriptedModel(PRO))
    extra = client.post(CHAT, json=body("How much does the Pro plan cost?"), headers=token()).json()["tandem"]
    address = f"/v1/turns/{extra['turn_id']}/passages"
    passage = client.get(f"{address}/1", headers=token()).json()
    assert (passage["n"], passage["document"], passage["text"]) == (1, "prices.md", PRICES)
    for n in ("2", "0", "-1", "99"):  # 2 was shown to the model, but is not cited
        assert_error(client.get(f"{address}/{n}", headers=token()), 404, code="turn_not_found")
    assert_error(client.get(f"{address}/one", headers=token()), 400)
    for headers in (token("cus_2"), {}):
        assert_error(client.get(f"{address}/1", headers=headers), 404, code="turn_not_found")


def test_html_in_a_passage_is_text(client_with: ClientWith) -> None:
    client = client_with(ScriptedModel(PRO))
    bot = client.app.state.bot  # type: ignore[attr-defined]
    answer = bot.answer("How much does the Pro plan cost?")
    turn = bot.turns.turn(answer.turn_id, Caller())
    bad = 'See <script>alert(1)</script> <img src=x onerror="alert(1)"> [x](javascript:alert(1)) ![i](data:x)'
    passage = replace(turn.passages[0], text=bad)
    bot.turns.save(replace(turn, turn_id="turn_html", passages=(passage,)))
    shown = client.get("/v1/turns/turn_html/passages/1").json()
    assert shown["text"] == bad
    for tag in ("<script", "<img", "<a "):
        assert tag not in shown["html"]
    assert "&lt;script&gt;" in shown["html"]


# The demo


def test_the_demo_signs_a_sample_customer_in(client_with: ClientWith) -> None:
    model = reader_model()
    client = client_with(model, demo=True)
    listed = client.get("/demo/customers").json()["customers"]
    assert [c["customer_id"] for c in listed] == ["cus_1", "cus_2"]
    assert all("email" not in c for c in listed)
    signed = client.post("/demo/sign-in", json={"customer_id": "cus_2"}).json()["token"]
    client.post(CHAT, json=body(), headers={"Authorization": f"Bearer {signed}"}).raise_for_status()
    assert "Bob Moran" in asked(model.asked[-1])
    staff = client.post("/demo/sign-in", json={"role": "agent"}).json()["token"]
    reply = client.post(CHAT, json=body(model="tandem-prompt"), headers={"Authorization": f"Bearer {staff}"})
    assert reply.status_code == 200
    assert STAFF_ONLY in asked(model.asked[-1])


@pytest.mark.parametrize(
    "request_body", [{"customer_id": "cus_9"}, {}, {"role": "admin"}, {"customer_id": "cus_1" * 99}]
)
def test_the_demo_signs_nobody_else_in(client_with: ClientWith, request_body: dict[str, str]) -> None:
    assert_error(client_with(demo=True).post("/demo/sign-in", json=request_body), 400)


def test_there_is_no_sign_in_without_the_demo(client: TestClient) -> None:
    assert_error(client.post("/demo/sign-in", json={"customer_id": "cus_1"}), 404)
    assert_error(client.get("/demo/customers"), 404)
    assert client.get("/ui/config").json()["demo"] is False


def test_a_demo_token_is_worth_nothing_outside_the_demo(client_with: ClientWith) -> None:
    signed = client_with(demo=True).post("/demo/sign-in", json={"customer_id": "cus_1"}).json()["token"]
    headers = {"Authorization": f"Bearer {signed}"}
    assert_error(client_with().post(CHAT, json=body(), headers=headers), 401, "authentication_error")
    assert_error(client_with(demo=True).post(CHAT, json=body(), headers=token()), 401, "authentication_error")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.7:8000"])
def test_the_demo_refuses_a_foreign_host_name(client_with: ClientWith, host: str) -> None:
    client = client_with(demo=True)
    assert_error(client.post("/demo/sign-in", json={"customer_id": "cus_1"}, headers={"Host": host}), 400)
    for own in ("127.0.0.1:8000", "localhost:9000", "[::1]:8000"):
        assert client.get("/healthz", headers={"Host": own}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "tandem.example"])
def test_the_demo_listens_on_loopback_only(server_settings: Settings, host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        serve.run(server_settings, host, 0, 1, True)


def test_the_demo_secret_is_random_and_kept_private(tmp_path: Path) -> None:
    first, second = demo_secret(tmp_path / "a"), demo_secret(tmp_path / "b")
    assert first != second
    assert len(first) >= 32
    assert demo_secret(tmp_path / "a") == first
    assert stat.S_IMODE((tmp_path / "a" / "demo-secret").stat().st_mode) == 0o600
    (tmp_path / "a" / "demo-secret").write_text("")  # a killed first start
    assert len(demo_secret(tmp_path / "a")) >= 32


# Health, page and headers


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert (ready.json()["model"], ready.json()["generation"]) == ("scripted", "g000001")


def test_metrics_count_answers_and_ratings(client: TestClient) -> None:
    turn = client.post(CHAT, json=body()).json()["tandem"]["turn_id"]
    client.post(CHAT, json=body("I want a human", stream=True))
    feedback_on(client, turn, {}).raise_for_status()
    text = client.get("/metrics").text
    assert 'tandem_answers_total{action="answer",mode="hybrid"} 1.0' in text
    assert 'tandem_answers_total{action="handoff",mode="hybrid"} 1.0' in text
    assert 'tandem_feedback_total{rating="up"} 1.0' in text
    assert "tandem_knowledge_age_seconds" in text
    assert QUESTION not in text


@pytest.mark.parametrize("path", ["/", "/widget.js", "/static/app.js", "/healthz", "/v1/models", "/v1/nothing"])
def test_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_page_and_the_widget_are_served(client: TestClient) -> None:
    assert "<html" in client.get("/").text
    assert client.get("/widget.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/static/../api.py").status_code == 404
    assert client.get("/static/%2e%2e/api.py").status_code == 404
