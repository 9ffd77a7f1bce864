"""`tandem doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec

import typer

from bot.errors import BotError
from cli.output import say, write_json
from retrieval.errors import RetrievalError


@dataclass(frozen=True, slots=True)
class Check:
    """Hold the outcome of one check; an optional part that is missing does not fail the whole."""

    name: str
    ok: bool
    message: str
    required: bool = True


def run(as_json: bool) -> None:
    """Run every check, print it, and exit 1 when a required one fails."""
    checks = [_try(*_CHECKS[0])]
    if checks[0].ok:  # without a configuration the others would say the same
        checks += [_try(*check) for check in _CHECKS[1:]]
    ok = all(check.ok or not check.required for check in checks)
    if as_json:
        write_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL" if check.required else "--  "
            say(f"{mark}  {check.name}: {check.message}")
    if not ok:
        raise typer.Exit(1)


def _try(name: str, work: Callable[[], str], required: bool) -> Check:
    try:
        return Check(name, True, work(), required)
    except (BotError, RetrievalError, OSError) as error:
        return Check(name, False, str(error), required)


def _configuration() -> str:
    from bot.auth import Authenticator
    from bot.settings import load_settings

    settings = load_settings()
    Authenticator(settings.auth)
    return f"{len(settings.sources)} sources, state in {settings.home}"


def _records() -> str:
    from bot.bootstrap import build_records
    from bot.settings import load_settings

    return f"{len(build_records(load_settings()).customers())} customers"


def _model() -> str:
    from bot.bootstrap import build_model
    from bot.settings import load_settings

    model = build_model(load_settings())
    return f"{model.name}, {model.context_tokens} tokens of context"


def _release() -> str:
    from bot.bootstrap import build_release, build_releases
    from bot.settings import load_settings
    from prompts.fingerprint import fingerprint

    settings = load_settings()
    release = build_releases(settings).current("hybrid")
    if release is None:
        return "none is promoted; the base model answers"
    model = build_release(settings, release)
    if fingerprint(model.template, release.templates()) != release.fingerprint:
        raise BotError(f"{release.name} was trained on prompts that this version fills differently: train it again")
    return f"{release.name}, {release.recipe}, on {release.base_model}"


def _embedder() -> str:
    from bot.bootstrap import build_embedder
    from bot.settings import load_settings

    return build_embedder(load_settings()).fingerprint


def _knowledge() -> str:
    from bot.bootstrap import build_generations
    from bot.settings import load_settings

    kept = build_generations(load_settings())
    manifest = kept.manifest(kept.current())
    return f"{manifest.generation} of {manifest.created_at}, {manifest.documents} documents"


def _training() -> str:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise BotError("torch and transformers are not installed; 'make setup' brings them")
    return "torch and transformers are installed"


_CHECKS: tuple[tuple[str, Callable[[], str], bool], ...] = (
    ("configuration", _configuration, True),
    ("records", _records, True),
    ("model", _model, True),
    ("release", _release, True),
    ("embedder", _embedder, True),
    ("knowledge", _knowledge, True),
    ("training", _training, False),
)
