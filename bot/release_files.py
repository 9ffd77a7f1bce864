"""What people do with releases by hand: add one from elsewhere, make one ready to serve, compare two, take one out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bot.bootstrap import base_folder
from bot.conversion import check_base, converted
from bot.errors import ConfigError, ReleaseError
from bot.releases import Release, Releases, base_digest
from bot.settings import Settings
from bot.weights.errors import ConversionFailed
from prompts.fingerprint import fingerprint
from prompts.templates import default_templates
from prompts.tokenizer import ChatTokenizer

Recipe = Literal["hybrid", "closed-book"]
Form = Literal["merged", "gguf", "adapter"]
_COMPARED = ("recipe", "base_model", "base_digest", "model", "fingerprint", "data_hash")


def make_ready(settings: Settings, release: Release, tell: Callable[[str], None]) -> None:
    """Bring a release to where a server finds it at once: merge it, or fetch the model that it names.

    Raises ConfigError where [bot] model is remote, ReleaseError, ModelError.
    """
    base = _local_base(settings)
    if release.model:
        _folder_of(settings, release.model)
    else:
        converted(release, base, settings.bot.engine, settings.cache, tell)


def add_adapter(settings: Settings, releases: Releases, name: str, adapter: Path, recipe: Recipe) -> Release:
    """Add a LoRA adapter from elsewhere, in peft's format, after merging it once with the base to see that it fits.

    Nobody has gated it, and its prompts are those of today's templates. Raises ConfigError, ReleaseError, ModelError.
    """
    from bot.weights import merge
    from bot.weights.folder import sha256_of

    base = _local_base(settings)
    releases.path_of(name)
    if not adapter.is_dir():
        raise ConfigError(f"There is no folder {adapter}. --adapter takes a folder in peft's format.")
    try:
        config = merge.adapter_config(adapter)
        for _ in merge.merged(base, adapter):
            pass
    except ConversionFailed as error:
        raise ReleaseError(f"{adapter} cannot be added: {error}") from None
    release = replace(
        _unverified(name, recipe, base),
        base_model=base.name if settings.bot.model == "local" else settings.bot.model,
        adapter_sha256=sha256_of(adapter / "adapter_model.safetensors"),
        settings={
            "rank": config["r"],
            "alpha": config["lora_alpha"],
            "trained_on": config.get("base_model_name_or_path"),  # as the adapter has it
        },
    )
    return releases.add(release, adapter, default_templates(), _card(release, "a LoRA adapter"))


def add_model(settings: Settings, releases: Releases, name: str, model: str, recipe: Recipe) -> Release:
    """Add a release that names a whole model, as [bot] model would; a Hugging Face id is fetched.

    Raises ConfigError, ReleaseError, ModelError.
    """
    _local_base(settings)
    releases.path_of(name)
    here = Path(model).expanduser()
    model = str(here.absolute()) if here.is_dir() else model  # else as [bot] model takes it, from the config file
    folder = _folder_of(settings, model)
    if folder and not (folder / "tokenizer.json").is_file():
        raise ReleaseError(f"{folder} holds no model: config.json and tokenizer.json are expected in it.")
    release = replace(_unverified(name, recipe, folder), base_model=model, model=model)
    return releases.add(release, None, default_templates(), _card(release, "a whole model"))


def export(settings: Settings, release: Release, form: Form, out: Path) -> Path:
    """Write a release into a new or empty folder, whole or not at all; returns the folder.

    `merged` is what transformers reads, `gguf` one file with the tokenizer beside it, `adapter` what peft reads.
    Raises ConfigError, ReleaseError, ModelError.
    """
    out = out.expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty, and nothing is overwritten. Name a new folder with --out.")
    if release.model:
        raise ReleaseError(f"'{release.name}' names the model '{release.model}'; there is no adapter to export.")
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _write(settings, release, form, aside)
        release.templates().save(aside / "templates")
        if (release.folder / "README.md").is_file():
            shutil.copyfile(release.folder / "README.md", aside / "README.md")
        if out.is_dir():
            out.rmdir()
        aside.rename(out)
    except (ConversionFailed, OSError) as error:
        raise ReleaseError(f"'{release.name}' cannot be exported: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def difference(before: Release, after: Release) -> dict[str, Any]:
    """Compare two manifests: each value as {"from", "to"}, and the names of the templates that differ."""
    old, new = dict(before.templates().texts), dict(after.templates().texts)
    return {
        "from": before.name,
        "to": after.name,
        **{name: {"from": getattr(before, name), "to": getattr(after, name)} for name in _COMPARED},
        "settings": _side_by_side(before.settings, after.settings),
        "metrics": _side_by_side(before.metrics, after.metrics),
        "templates": sorted(name for name in old if old[name] != new[name]),
    }


def _write(settings: Settings, release: Release, form: Form, folder: Path) -> None:
    from bot.weights import merge

    if form == "adapter":
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(release.adapter / name, folder / name)
        content = json.dumps(release.as_json(), indent=1)
        (folder / "release.json").write_text(content, encoding="utf-8")
        return
    base = _local_base(settings)
    check_base(release, base)
    if form == "merged":
        merge.write_safetensors(base, release.adapter, folder)
    else:
        merge.copy_tokenizer(base, folder)
        merge.write_gguf(base, release.adapter, folder / f"{release.name}-q8_0.gguf")


def _unverified(name: str, recipe: Recipe, folder: Path | None) -> Release:
    """Return a release from elsewhere whose model's folder this is, None for a remote one."""
    try:
        prompts = fingerprint(ChatTokenizer(folder) if folder else None, default_templates())
    except Exception as error:  # a template is a program, and fails as it likes
        raise ReleaseError(f"{folder} has no chat template that fits our prompts: {error}") from None
    return Release(
        name=name,
        recipe=recipe,
        base_model="",
        base_digest=base_digest(folder) if folder else "",
        fingerprint=prompts,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        verified=False,
    )


def _card(release: Release, what: str) -> str:
    return (
        f"# {release.name}\n\nRecipe {release.recipe}, {what} for {release.base_model}, added on "
        f"{release.created_at[:10]} and not made by `tandem train`. Nobody has gated it.\n"
    )


def _local_base(settings: Settings) -> Path:
    base = base_folder(settings)
    if base is None:
        raise ConfigError(f"[bot] model = '{settings.bot.model}' is a remote model, which no release changes.")
    return base


def _folder_of(settings: Settings, model: str) -> Path | None:
    """Return the folder of a model that a release names, None for a remote one; ConfigError where it is neither."""
    folder = base_folder(settings, model)
    provider, _, rest = model.partition(":")
    if folder is None and not (rest and len(provider) > 1):  # a single letter is a Windows drive
        raise ConfigError(f"'{model}' is no folder here, no Hugging Face id such as 'org/name', and no provider:model.")
    return folder


def _side_by_side(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return {name: {"from": _value(before.get(name)), "to": _value(after.get(name))} for name in names}


def _value(item: Any) -> Any:
    """Return a measured metric's value, without its interval; anything else as it stands."""
    return item["value"] if isinstance(item, dict) and "value" in item else item
