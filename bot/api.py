"""The HTTP server: OpenAI-compatible chat, feedback, health, metrics and the chat page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sse_starlette import EventSourceResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from bot.answer import Answer, Begun, Done, Event, SupportBot
from bot.auth import Authenticator, demo_secret
from bot.completions import MODELS, Chunks, UnknownModel, completion, error_body, mode_of, split_messages
from bot.demo import demo_routes
from bot.errors import (
    BotError,
    KnowledgeTooLarge,
    ModelUnavailable,
    NotAllowed,
    UnknownConversation,
    UnknownTurn,
)
from bot.metrics import Metrics
from bot.schemas import ChatRequest, FeedbackRequest
from bot.settings import Settings
from bot.turns import Caller, new_id
from bot.ui import passage_view, ui_config
from retrieval.errors import NoGeneration, QuestionError, RetrievalError

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
_MAX_BODY = 1_000_000  # bytes
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

# The one table of errors: class, status, type, code. The first that matches counts.
_ERRORS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (NotAllowed, 401, "authentication_error", "invalid_token"),
    (QuestionError, 400, "invalid_request_error", "invalid_question"),
    (KnowledgeTooLarge, 400, "invalid_request_error", "knowledge_too_large"),
    (UnknownModel, 404, "invalid_request_error", "model_not_found"),
    (UnknownConversation, 404, "invalid_request_error", "conversation_not_found"),
    (UnknownTurn, 404, "invalid_request_error", "turn_not_found"),
    (NoGeneration, 503, "server_error", "no_knowledge"),
    (ModelUnavailable, 503, "server_error", "model_unavailable"),
)
_SPOKEN_AS_IT_STANDS = (NotAllowed, QuestionError, KnowledgeTooLarge, UnknownModel, UnknownConversation, UnknownTurn)
_FAILED = "Something went wrong on our side. Try again; if it stays, tell the operator."


def create_app(settings: Settings, *, demo: bool = False, bot: SupportBot | None = None) -> FastAPI:
    """Build the server; `bot` is built from the settings unless one is given."""
    app = FastAPI(title="Tandem", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    auth = Authenticator(settings.auth, demo_secret=demo_secret(settings.home) if demo else None)
    app.state.bot = bot or SupportBot.from_settings(settings)
    app.state.auth = auth
    app.state.metrics = Metrics()
    app.state.settings = settings
    app.state.demo = demo
    if demo:
        app.include_router(demo_routes())
    app.add_middleware(_Guard, demo=demo)
    _add_error_handlers(app)
    _add_chat(app)
    _add_turns(app)
    _add_health(app)
    _add_page(app)
    return app


def get_caller(request: Request, authorization: Annotated[str | None, Header()] = None) -> Caller:
    """Return the authenticated caller of a request."""
    caller: Caller = request.app.state.auth.caller(authorization)
    return caller


CallerOf = Annotated[Caller, Depends(get_caller)]


class _Guard:
    """Refuse what must not reach the routes, and put the security headers on every reply.

    Not a BaseHTTPMiddleware: behind one, a route never learns that its client went away.
    """

    def __init__(self, app: ASGIApp, *, demo: bool) -> None:
        self._app = app
        self._demo = demo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> JSONResponse | None:
        # A page elsewhere must not reach the demo by a name that it points at this machine.
        if self._demo and request.url.hostname not in _LOOPBACK:
            return _refused("The demo answers on loopback only.", 400)
        if "transfer-encoding" in request.headers:
            return _refused("Send a Content-Length.", 411)
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY:
            return _refused("The request is too large.", 413, "too_large")
        return None


def _refused(message: str, status: int, code: str | None = None) -> JSONResponse:
    return JSONResponse(error_body(message, "invalid_request_error", code), status)


def _add_chat(app: FastAPI) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request, caller: CallerOf) -> Response:
        question, history = split_messages(body.messages)
        mode = mode_of(body.model)
        conversation = (body.metadata or {}).get("conversation_id")
        if conversation is not None and not isinstance(conversation, str):
            raise QuestionError("metadata.conversation_id must be a string.")
        bot: SupportBot = app.state.bot
        events = await run_in_threadpool(
            bot.stream, question, mode=mode, conversation_id=conversation, history=history, caller=caller
        )
        metrics: Metrics = app.state.metrics
        if not body.stream:
            answer = await _whole(events, request)
            if answer is None:
                return Response(status_code=499)  # the client went away; nobody reads this
            metrics.observe(answer)
            return JSONResponse(completion(answer, body.model))
        first = await run_in_threadpool(next, events)  # an error up to here still has a status of its own
        usage = bool(body.stream_options and body.stream_options.include_usage)
        chunks = Chunks(body.model, f"chatcmpl-{new_id('stream')}", include_usage=usage)
        return EventSourceResponse(_sse(first, events, chunks, metrics), ping=15)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        names = [{"id": name, "object": "model", "created": 0, "owned_by": "tandem"} for name in MODELS]
        return {"object": "list", "data": names}


async def _whole(events: Iterator[Event], request: Request) -> Answer | None:
    """Run a stream to its end; None when the client went away, which stops the model."""
    try:
        while True:
            event = await run_in_threadpool(next, events)
            if isinstance(event, Done):
                return event.answer
            if await request.is_disconnected():
                return None
    finally:
        events.close()  # type: ignore[attr-defined]


async def _sse(first: Event, events: Iterator[Event], chunks: Chunks, metrics: Metrics) -> AsyncIterator[str]:
    event: Event | None = first
    try:
        while event is not None:
            if isinstance(event, Done):
                metrics.observe(event.answer)
                for line in chunks.last(event.answer):
                    yield line
            elif isinstance(event, Begun):
                yield chunks.first(event)
            elif event.text:
                yield chunks.text(event.text)
            event = await run_in_threadpool(next, events, None)
        yield "[DONE]"
    except Exception as error:  # the status is sent; what failed is said in the stream
        if not isinstance(error, BotError | RetrievalError):
            log.exception("a stream failed")
        yield _error_json(error)
    except asyncio.CancelledError:
        log.info("a client went away")
        raise
    finally:
        events.close()  # type: ignore[attr-defined]  # stops the model


def _error_json(error: Exception) -> str:
    import json

    _, body = _described(error)
    return json.dumps(body)


def _described(error: Exception) -> tuple[int, dict[str, Any]]:
    for kind, status, name, code in _ERRORS:
        if isinstance(error, kind):
            message = str(error) if isinstance(error, _SPOKEN_AS_IT_STANDS) else _FAILED
            return status, error_body(message, name, code)
    return 500, error_body(_FAILED, "server_error", None)


def _add_error_handlers(app: FastAPI) -> None:
    async def expected(_: Request, error: Exception) -> JSONResponse:
        status, body = _described(error)
        if status >= 500:
            log.error("%s: %s", type(error).__name__, error)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "5"} if status == 503 else {}
        return JSONResponse(body, status, headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return JSONResponse(error_body(message, "invalid_request_error", None), 400)

    async def plain(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        body = error_body(str(error.detail), "invalid_request_error", None)
        return JSONResponse(body, error.status_code, error.headers)

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.exception("a request failed", exc_info=error)
        return JSONResponse(error_body(_FAILED, "server_error", None), 500)

    for kind in (BotError, RetrievalError):
        app.add_exception_handler(kind, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unexpected)


def _add_turns(app: FastAPI) -> None:
    @app.post("/v1/feedback")
    def feedback(body: FeedbackRequest, caller: CallerOf) -> dict[str, bool]:
        app.state.bot.turns.rate(body.turn_id, caller, body.rating, body.comment, body.correction)
        app.state.metrics.rated(body.rating)
        return {"ok": True}

    @app.get("/v1/turns/{turn_id}/passages/{n}")
    def passage(turn_id: str, n: int, caller: CallerOf) -> dict[str, Any]:
        return passage_view(app.state.bot.turns.turn(turn_id, caller), n)


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz")
    def alive() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", response_model=None)
    def ready() -> Response:
        state = app.state.bot.readiness()
        return JSONResponse(state, 200 if state["ready"] else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        text, kind = app.state.metrics.render(app.state.bot.readiness())
        return Response(text, media_type=kind)


def _add_page(app: FastAPI) -> None:
    @app.get("/ui/config")
    def config() -> dict[str, Any]:
        return ui_config(app.state.settings, app.state.bot.readiness(), demo=app.state.demo)

    @app.get("/", response_class=FileResponse)
    def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/widget.js", response_class=FileResponse)
    def widget() -> FileResponse:
        return FileResponse(WEB / "widget.js", media_type="text/javascript")

    app.mount("/static", StaticFiles(directory=WEB))
