"""`tandem releases`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bot import release_files
from bot.bootstrap import build_releases
from bot.errors import ConfigError, ReleaseError
from bot.release_files import Form, Recipe
from bot.releases import Promoted, Release, Releases, check_gate
from bot.settings import Settings
from cli.output import note, say, table, write_json

Action = Literal["list", "show", "diff", "promote", "rollback", "export", "add"]
_NAMES = {"list": 0, "show": 1, "diff": 2, "promote": 1, "rollback": 0, "export": 1, "add": 1}
_USE = (
    "Use: tandem releases list | show N | diff A B | promote N [--force] | rollback | "
    "export N --to merged|gguf|adapter [--out DIR] | add N --adapter DIR or --model ID [--recipe hybrid|closed-book]"
)


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what was given beside the names; each option belongs to one action."""

    force: bool = False
    to: Form | None = None
    out: Path | None = None
    adapter: Path | None = None
    model: str | None = None
    recipe: Recipe | None = None

    def check(self, action: Action) -> None:
        """Refuse what the action would pass over, and ask for what it lacks; raises ConfigError."""
        strange = (
            (self.force and action != "promote")
            or ((self.to or self.out) and action != "export")
            or ((self.adapter or self.model is not None or self.recipe) and action != "add")
        )
        lacking = (action == "export" and self.to is None) or (
            action == "add" and (self.adapter is None) == (not self.model)
        )
        if strange or lacking:
            raise ConfigError(_USE)


def run(settings: Settings, action: Action, names: list[str], options: Options, as_json: bool) -> None:
    """Do what was asked and print what came of it."""
    if len(names) != _NAMES[action]:
        raise ConfigError(_USE)
    options.check(action)
    releases = build_releases(settings)
    match action:
        case "list":
            _list(releases, as_json)
        case "show":
            _show(releases, releases.get(names[0]), as_json)
        case "diff":
            _diff(releases.get(names[0]), releases.get(names[1]), as_json)
        case "promote":
            _promote(settings, releases, names[0], options.force, as_json)
        case "rollback":
            _rollback(settings, releases, as_json)
        case "export":
            _export(settings, releases.get(names[0]), options, as_json)
        case "add":
            _add(settings, releases, names[0], options, as_json)


def _list(releases: Releases, as_json: bool) -> None:
    promoted = releases.promoted()
    rows: list[Release] = []
    for name in releases.names():
        try:
            rows.append(releases.get(name))
        except ReleaseError as error:  # one that is damaged does not hide the others
            note(str(error))
    if as_json:
        listed = [_plain(releases, promoted, release) for release in rows]
        write_json({"promoted": _by_recipe(promoted), "releases": listed})
        return
    shown = [
        ("*" if _serves(promoted, r) else "", r.name, r.recipe, r.base_model, r.created_at[:16], _gate(r)) for r in rows
    ]
    table(["", "release", "recipe", "base model", "created", "gate"], shown)


def _show(releases: Releases, release: Release, as_json: bool) -> None:
    content = {**_plain(releases, releases.promoted(), release), "folder": str(release.folder)}
    if as_json:
        write_json(content)
        return
    for key, value in content.items():
        if isinstance(value, Mapping):
            say(f"{key}:" if value else f"{key}: none")
            for name, item in value.items():
                say(f"  {name}: {_short(item)}")
        else:
            say(f"{key}: {_short(value)}")


def _diff(before: Release, after: Release, as_json: bool) -> None:
    found = release_files.difference(before, after)
    if as_json:
        write_json(found)
        return
    rows = [(key, item) for key, item in found.items() if isinstance(item, dict) and set(item) == {"from", "to"}]
    rows += [(f"{part}.{name}", item) for part in ("settings", "metrics") for name, item in found[part].items()]
    shown = [("*" if i["from"] != i["to"] else "", key, _short(i["from"]), _short(i["to"])) for key, i in rows]
    table(["", "", before.name, after.name], shown)
    say(f"templates that differ: {', '.join(found['templates']) or 'none'}")


def _promote(settings: Settings, releases: Releases, name: str, force: bool, as_json: bool) -> None:
    release = releases.get(name)
    if not force:
        check_gate(release)  # before minutes of merging
    release_files.make_ready(settings, release, note)
    _show_pointer(releases.promote(name, force=force), as_json, release.recipe)


def _rollback(settings: Settings, releases: Releases, as_json: bool) -> None:
    recipe, release = releases.before()
    if release:
        release_files.make_ready(settings, release, note)
    _show_pointer(releases.rollback(), as_json, recipe)


def _show_pointer(promoted: Promoted, as_json: bool, recipe: str) -> None:
    name = promoted.of(recipe)
    if as_json:
        write_json({"release": name, "recipe": recipe, "promoted": _by_recipe(promoted)})
    elif name:
        say(f"{name} is now the {recipe} release. Running servers take it over within seconds.")
    else:
        say(f"No {recipe} release is in use now. Running servers go over to the base model within seconds.")


def _export(settings: Settings, release: Release, options: Options, as_json: bool) -> None:
    assert options.to is not None
    out = options.out or Path(f"{release.name}-{options.to}")
    note(f"writing {release.name} to {out}")
    folder = release_files.export(settings, release, options.to, out)
    if as_json:
        write_json({"release": release.name, "to": options.to, "folder": str(folder)})
    else:
        say(f"Wrote {folder}.")


def _add(settings: Settings, releases: Releases, name: str, options: Options, as_json: bool) -> None:
    recipe = options.recipe or "hybrid"
    if options.adapter is not None:
        release = release_files.add_adapter(settings, releases, name, options.adapter, recipe)
    else:
        assert options.model is not None
        release = release_files.add_model(settings, releases, name, options.model, recipe)
    trained_on = release.settings.get("trained_on")
    if trained_on and Path(str(trained_on)).name != Path(release.base_model).name:
        note(f"The adapter says that it was trained on {trained_on}; here it is merged into {release.base_model}.")
    if as_json:
        write_json(_plain(releases, releases.promoted(), release))
    else:
        say(f"Added {name}. Nobody has gated it: 'tandem releases promote {name} --force' puts it to use.")


def _plain(releases: Releases, promoted: Promoted, release: Release) -> dict[str, Any]:
    shipped = release.folder.parent != releases.folder
    return {**release.as_json(), "promoted": _serves(promoted, release), "shipped": shipped}


def _by_recipe(promoted: Promoted) -> dict[str, str | None]:
    return {"hybrid": promoted.hybrid, "closed-book": promoted.closed_book}


def _serves(promoted: Promoted, release: Release) -> bool:
    return promoted.of(release.recipe) == release.name


def _gate(release: Release) -> str:
    if not release.verified:
        return "from elsewhere"
    if not release.gate:
        return "not gated"
    return "passed" if release.gate.get("passed") else "failed"


def _short(value: Any) -> str:
    """Return a value for people: a metric with its interval, a list without its brackets, nothing as a dash."""
    match value:
        case None | () | []:
            return "-"
        case {"value": measured, "low": float(low), "high": float(high)}:
            return f"{_short(measured)} ({low:.3g} to {high:.3g})"
        case {"value": measured}:
            return _short(measured)
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
