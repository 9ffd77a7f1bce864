"""The models behind the bot: misbehaving servers, which class a name stands for, and the real local weights."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage

from bot import bootstrap, weights
from bot.bootstrap import build_model
from bot.errors import ConfigError, ModelError, ModelMissing, ModelUnavailable
from bot.models import ChatModel, Sampling
from bot.models.remote import DEFAULT_CONTEXT, LangChainModel, OpenAIModel
from bot.settings import BotSettings, Settings
from bot.weights.errors import WeightsMissing
from prompts.messages import Message

ASKED = [Message("system", "Be brief."), Message("user", "Hello?")]
SAMPLING = Sampling(max_tokens=30, temperature=0.5)


# A stand-in for an OpenAI-shaped server


class Server:
    """Answers each request by `respond`, and keeps what was asked for."""

    def __init__(self, respond: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.hung_up = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.requests.append(json.loads(self.rfile.read(length)) | {"path": self.path})
                outer.keys.append(self.headers["Authorization"])
                try:
                    respond(self)
                except OSError:
                    outer.hung_up.set()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def serving(respond: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    server = Server(respond)
    try:
        yield server
    finally:
        server.close()


def piece(text: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def headers(handler: BaseHTTPRequestHandler, **extra: str) -> None:
    handler.send_response(200)
    for name, value in {"Content-Type": "text/event-stream", **extra}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def stream_well(handler: BaseHTTPRequestHandler) -> None:
    headers(handler)
    usage_only = b'data: {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": []}\n\n'
    handler.wfile.write(piece("") + piece("Hel") + piece(None) + piece("lo.") + usage_only + b"data: [DONE]\n\n")


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, as a server does that is killed midway."""
    headers(handler, Content_Length="10000")
    handler.wfile.write(piece("Hel"))


def endless(handler: BaseHTTPRequestHandler) -> None:
    headers(handler)
    for _ in range(1_000_000):
        handler.wfile.write(piece("on and "))
        handler.wfile.flush()


def failing(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("retry-after-ms", "1")  # the client tries again by itself
        handler.end_headers()
        handler.wfile.write(b'{"error": {"message": "no", "type": "x", "code": null}}')

    return respond


def test_openai_streams_and_sends_what_it_should() -> None:
    with serving(stream_well) as server:
        model = OpenAIModel("small", base_url=server.url, api_key="key of the tests")
        assert list(model.stream(ASKED, SAMPLING)) == ["Hel", "lo."]
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["messages"] == [{"role": m.role, "content": m.content} for m in ASKED]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("small", 30, 0.5)
    assert request["stream"] is True
    assert server.keys == ["Bearer key of the tests"]


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (failing(429), ModelUnavailable),
        (failing(500), ModelUnavailable),
        (failing(503), ModelUnavailable),
        (failing(400), ModelError),
        (failing(401), ModelError),
        (failing(404), ModelError),
    ],
    ids=["429", "500", "503", "400", "401", "404"],
)
def test_openai_errors(respond: Callable[[BaseHTTPRequestHandler], None], error: type[Exception]) -> None:
    with serving(respond) as server:
        with pytest.raises(ModelError) as raised:
            list(OpenAIModel("small", base_url=server.url).stream(ASKED, SAMPLING))
    assert type(raised.value) is error


def test_openai_cut_stream_is_unavailable_after_what_came() -> None:
    with serving(cut) as server:
        stream = OpenAIModel("small", base_url=server.url).stream(ASKED, SAMPLING)
        assert next(stream) == "Hel"
        with pytest.raises(ModelUnavailable):
            next(stream)


def test_openai_connection_refused_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ModelUnavailable, match="openai:small"):
        list(OpenAIModel("small", base_url=f"http://127.0.0.1:{port}/v1", timeout=5).stream(ASKED, SAMPLING))


def test_openai_closing_the_iterator_closes_the_connection() -> None:
    with serving(endless) as server:
        stream = OpenAIModel("small", base_url=server.url).stream(ASKED, SAMPLING)
        assert next(stream) == "on and "
        stream.close()  # type: ignore[attr-defined]
        assert server.hung_up.wait(timeout=30)


def test_openai_without_a_key_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="TANDEM_BOT_API_KEY"):
        OpenAIModel("small")


def test_remote_counts_are_estimates_that_grow() -> None:
    model = OpenAIModel("small", base_url="http://127.0.0.1:1/v1")
    assert model.count_text("") == 0
    assert model.count_text("12345678") == 2
    assert model.count_tokens(ASKED) > model.count_tokens(ASKED[1:]) > 0
    assert model.context_tokens == DEFAULT_CONTEXT
    assert OpenAIModel("small", base_url="http://127.0.0.1:1/v1", context_tokens=999).context_tokens == 999


# LangChain, through a provider that is a stand-in


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> type[BaseChatModel]:
    """Put a package langchain_ollama in place, with a model that streams words."""

    class ChatOllama(GenericFakeChatModel):
        model: str
        timeout: float | None = None
        messages: Any = None
        options: list[dict[str, Any]] = []  # pydantic copies it

        def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any) -> Iterator[Any]:
            if self.model == "broken":
                raise RuntimeError("the provider's own error")
            self.options.append({"said": [m.content for m in messages], **options})
            self.messages = iter([AIMessage("Hello from LangChain.")])
            yield from super()._stream(messages, stop, run_manager)

    package = ModuleType("langchain_ollama")
    package.ChatOllama = ChatOllama  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain_ollama", package)
    return ChatOllama


def test_langchain_streams(provider: type[BaseChatModel]) -> None:
    model = LangChainModel("ollama:tiny", timeout=7, context_tokens=500)
    pieces = list(model.stream(ASKED, SAMPLING))
    assert "".join(pieces) == "Hello from LangChain."
    assert len(pieces) > 1
    assert model.context_tokens == 500
    assert model._model.timeout == 7
    (call,) = model._model.options
    assert call["said"] == ["Be brief.", "Hello?"]
    assert (call["max_tokens"], call["temperature"]) == (30, 0.5)


def test_langchain_errors_name_the_model(provider: type[BaseChatModel]) -> None:
    with pytest.raises(ModelUnavailable, match="ollama:broken"):
        list(LangChainModel("ollama:broken").stream(ASKED, SAMPLING))


# Which class a name stands for


def settings_for(root: Path, **bot: Any) -> Settings:
    return Settings(root=root, bot=BotSettings(**bot))


def test_names_of_remote_models(tmp_path: Path, provider: type[BaseChatModel]) -> None:
    model = build_model(settings_for(tmp_path, model="openai:gpt-x", base_url="http://127.0.0.1:1/v1"))
    assert isinstance(model, OpenAIModel)
    assert model.name == "openai:gpt-x"
    model = build_model(settings_for(tmp_path, model="ollama:tiny", context_tokens=4000))
    assert isinstance(model, LangChainModel)
    assert (model.name, model.context_tokens) == ("ollama:tiny", 4000)


def test_a_provider_that_is_not_installed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)  # as if it were not installed
    with pytest.raises(ModelMissing, match="langchain.anthropic"):
        build_model(settings_for(tmp_path, model="anthropic:claude-x"))


def test_a_hugging_face_id_is_fetched_once_it_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def download(name: str) -> Path:
        fetched.append(name)
        return tmp_path / "empty"

    monkeypatch.setattr(bootstrap, "_download", download)
    with pytest.raises(ModelError, match=r"config\.json"):
        build_model(settings_for(tmp_path, model="org/name"))
    (tmp_path / "org" / "name").mkdir(parents=True)
    with pytest.raises(ModelError, match="org/name holds no model"):
        build_model(settings_for(tmp_path, model="org/name"))
    assert fetched == ["org/name"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nonsense", ConfigError),
        ("./missing", ConfigError),
        ("/missing/folder", ConfigError),
        ("a/b/c", ConfigError),
        ("openai:", ConfigError),
        ("~/missing", ConfigError),
        ("nobody:model", ModelError),
    ],
)
def test_nonsense_is_refused_with_the_name(tmp_path: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        build_model(settings_for(tmp_path, model=name))
    assert f"'{name}'" in str(raised.value)


def test_missing_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path))
    with pytest.raises(ModelMissing, match="make setup"):
        build_model(settings_for(tmp_path))


# The real local weights

SHORT = Sampling(max_tokens=40)
PROMPTS = [
    "Name three colours of a rainbow.",
    "Write two short sentences about the sea.",
    "What is the capital of France?",
    "How do I save a file in a text editor?",
    "Say hello to a new customer in two sentences.",
]


def chat(question: str) -> list[Message]:
    return [Message("system", "You are a helpful assistant."), Message("user", question)]


def local(engine: str, root: Path) -> ChatModel:
    try:
        weights.chat_model_folder()
    except WeightsMissing as error:
        pytest.skip(str(error))
    return build_model(settings_for(root, engine=engine))


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    pytest.importorskip("openvino_genai")
    return local("openvino", tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    return local("transformers", tmp_path_factory.mktemp("root"))


@pytest.mark.slow
def test_greedy_output_is_the_same_again(openvino: ChatModel) -> None:
    first = "".join(openvino.stream(chat(PROMPTS[1]), SHORT))
    assert len(first) > 20
    list(openvino.stream(chat(PROMPTS[0]), SHORT))  # nothing is left over from another prompt
    assert "".join(openvino.stream(chat(PROMPTS[1]), SHORT)) == first


@pytest.mark.slow
def test_the_answer_comes_in_pieces_and_keeps_its_limit(openvino: ChatModel) -> None:
    pieces = list(openvino.stream(chat("Count from one to one hundred, in words."), Sampling(max_tokens=12)))
    assert len(pieces) > 5
    assert openvino.count_text("".join(pieces)) <= 12
    assert "<|im_end|>" not in "".join(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "transformers"])
def test_closing_stops_the_generation(engine: str, request: pytest.FixtureRequest) -> None:
    model: ChatModel = request.getfixturevalue(engine)
    tokens = Sampling(max_tokens=1500, repetition_penalty=1.0)
    stream = model.stream(chat("Count from one to one thousand, in words."), tokens)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    for running in [thread for thread in threading.enumerate() if thread.name == "generate"]:
        running.join(timeout=60)  # all 1,500 tokens would take longer
        assert not running.is_alive()
    assert "".join(model.stream(chat(PROMPTS[2]), SHORT))  # the next one is not held up


@pytest.mark.slow
def test_a_prompt_too_long_is_refused(openvino: ChatModel) -> None:
    with pytest.raises(ModelError, match="tokens"):
        next(openvino.stream(chat("word " * openvino.context_tokens), SHORT))
    with pytest.raises(ModelError, match="tokens"):
        next(openvino.stream(chat("Hello"), Sampling(max_tokens=openvino.context_tokens)))


@pytest.mark.slow
def test_both_engines_begin_alike(openvino: ChatModel, transformers: ChatModel) -> None:
    """The default engine reads 8-bit weights, the reference 32-bit ones: most answers begin with the same words."""
    alike = 0
    for question in PROMPTS:
        begun = ["".join(model.stream(chat(question), Sampling(max_tokens=8))) for model in (openvino, transformers)]
        alike += begun[0] == begun[1]
        assert begun[0]
    assert alike >= 3


@pytest.mark.slow
def test_both_engines_count_alike(openvino: ChatModel, transformers: ChatModel) -> None:
    for question in PROMPTS:
        assert openvino.count_tokens(chat(question)) == transformers.count_tokens(chat(question)) > 10
