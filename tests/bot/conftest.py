"""Fixtures of the bot's tests."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from bot.answer import SupportBot
from bot.api import create_app
from bot.errors import ModelMissing
from tests.bot.world import World, example_world, reader_model, small_world
from tests.stand_ins import ScriptedModel

BotWith = Callable[..., SupportBot]


@contextmanager
def no_variables() -> Iterator[None]:
    """Do for session fixtures what `clean_environment` does for tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("TANDEM_") and n != "TANDEM_CACHE"]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a small deployment that needs no weights."""
    with no_variables():
        world = small_world(tmp_path_factory.mktemp("small"))
    yield world
    world.close()


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the worked example, refreshed with the real embedder."""
    try:
        with no_variables():
            world = example_world(tmp_path_factory.mktemp("example"))
    except ModelMissing as error:
        pytest.skip(str(error))
    yield world
    world.close()


@pytest.fixture(scope="session")
def example_home(example: World) -> Path:
    """Give the TANDEM_HOME of the worked example."""
    return example.settings.home


@contextmanager
def bots_of(world: World, folder: Path) -> Iterator[BotWith]:
    made: list[SupportBot] = []

    def bot_with(model: Any = None, **changes: Any) -> SupportBot:
        made.append(world.bot_with(model or reader_model(), folder / "state.sqlite3", **changes))
        return made[-1]

    yield bot_with
    for bot in made:
        bot.turns.close()


@pytest.fixture
def bot_with(small: World, tmp_path: Path) -> Iterator[BotWith]:
    """Build bots on the small deployment; those of one test share a turn log of their own."""
    with bots_of(small, tmp_path) as build:
        yield build


@pytest.fixture
def example_bot_with(example: World, tmp_path: Path) -> Iterator[BotWith]:
    """Build bots on the worked example."""
    with bots_of(example, tmp_path) as build:
        yield build


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app on a free port of this machine, in a thread; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()  # the socket listens already, so that a request waits until the server is up
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


@dataclass(frozen=True)
class Live:
    """A running demo server with the bot and the model behind it."""

    url: str
    bot: SupportBot
    model: ScriptedModel


@pytest.fixture(scope="module")
def live(example: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve the worked example, answered by a stand-in that reads its passages aloud, slowly."""
    home = tmp_path_factory.mktemp("live")
    settings = example.settings.model_copy(update={"home": home})
    model = reader_model(delay=0.02, piece=12)
    with bots_of(example, home) as bot_with:
        bot = bot_with(model)
        with served(create_app(settings, demo=True, bot=bot)) as url:
            yield Live(url, bot, model)


@pytest.fixture(scope="module")
def live_server(live: Live) -> str:
    """Give the address of the running demo server."""
    return live.url
