"""`tandem serve`."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from bot.auth import Authenticator
from bot.errors import ConfigError
from bot.settings import Settings, load_settings
from cli.output import note

if TYPE_CHECKING:
    from fastapi import FastAPI

_DEMO = "_TANDEM_SERVE_DEMO"  # hands --demo to worker processes


def run(settings: Settings, host: str | None, port: int | None, workers: int | None, demo: bool) -> None:
    """Serve until interrupted."""
    import uvicorn

    host = host or settings.serve.host
    port = settings.serve.port if port is None else port
    workers = workers or settings.serve.workers
    if demo and not _is_loopback(host):
        raise ConfigError("--demo signs anybody in as any customer, so it listens on loopback only. Leave --host out.")
    Authenticator(settings.auth)  # a wrong secret is said here once, not by each worker
    _check_free(host, port)
    os.environ[_DEMO] = "1" if demo else "0"
    shown = f"[{host}]" if ":" in host else host
    note(f"Tandem serves at http://{shown}:{port}  (stop with Ctrl+C)")
    uvicorn.run(
        "cli.serve:app_factory",
        factory=True,
        host=host,
        port=port,
        workers=workers if workers > 1 else None,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )


def app_factory() -> FastAPI:
    """Build the server in a worker process."""
    from bot.api import create_app

    app = create_app(load_settings(), demo=os.environ.get(_DEMO) == "1")
    app.state.bot.warm_up()
    return app


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} on {host} cannot be used: {error.strerror}. Choose another with --port."
            ) from None
