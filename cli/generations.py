"""`tandem generations`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from bot.bootstrap import build_generations
from bot.errors import ConfigError
from bot.settings import Settings
from cli.output import say, table, write_json
from retrieval.generations import Generations

_ARGUMENTS = {"list": 0, "show": 1, "diff": 2, "rollback": 1}


def run(
    settings: Settings, action: Literal["list", "show", "diff", "rollback"], names: list[str], as_json: bool
) -> None:
    """List, show, compare or roll back."""
    if len(names) != _ARGUMENTS[action]:
        raise ConfigError("Use: tandem generations list | show N | diff A B | rollback N")
    kept = build_generations(settings)
    match action:
        case "list":
            _list(kept, as_json)
        case "show":
            _show({**asdict(kept.manifest(names[0])), "keys": sorted(kept.documents(names[0]))}, as_json)
        case "diff":
            _diff(kept, names[0], names[1], as_json)
        case "rollback":
            kept.rollback(names[0])
            _show({"current": names[0]}, as_json)


def _list(kept: Generations, as_json: bool) -> None:
    state = kept.published()
    rows = [{**asdict(kept.manifest(name)), "current": name == state.current} for name in state.history]
    if as_json:
        write_json({"current": state.current, "generations": rows})
        return
    shown = [("*" if r["current"] else "", r["generation"], r["created_at"], r["documents"], r["chunks"]) for r in rows]
    table(["", "generation", "created", "documents", "chunks"], shown)


def _diff(kept: Generations, first: str, second: str, as_json: bool) -> None:
    for name in (first, second):
        kept.manifest(name)  # explains an unknown one
    before, after = kept.documents(first), kept.documents(second)
    changes = {
        "added": sorted(set(after) - set(before)),
        "updated": sorted(k for k in set(after) & set(before) if after[k]["digest"] != before[k]["digest"]),
        "deleted": sorted(set(before) - set(after)),
    }
    if as_json:
        write_json({"from": first, "to": second, **changes})
        return
    for kind, keys in changes.items():
        for key in keys:
            say(f"{kind:>8}  {key}")


def _show(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(value)
        return
    for key, item in value.items():
        say(f"{key}: {', '.join(item) if isinstance(item, list) else item}")
