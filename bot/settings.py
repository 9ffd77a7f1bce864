"""The settings of one deployment: tandem.toml, overridden by the environment and by .env beside it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bot.errors import ConfigError
from prompts.messages import Slots
from retrieval.settings import CustomersSettings, RecordsSettings, RetrievalSettings, SourceSettings, Table

_SECRETS = {("auth", "jwt_secret"), ("auth", "admin_token"), ("bot", "api_key")}
_SLOTS = Slots()  # the words a company changes have their defaults there
_PLAIN = {"TANDEM_HOME", "TANDEM_CACHE", "TANDEM_CONFIG"}


class BotSettings(Table):
    """Set the model, its limits and the slots of the templates."""

    model: str = "local"  # "local", a folder, a Hugging Face id, "openai:<model>" or "<provider>:<model>"
    base_url: str | None = None  # of an OpenAI-shaped server
    api_key: SecretStr | None = None  # of that server; environment only
    engine: str = Field(default="openvino", pattern="^(openvino|transformers)$")  # of local weights
    max_tokens: int = Field(default=220, ge=1, le=4096)  # of an answer
    prompt_tokens: int = Field(default=900, ge=200)  # budget of a prompt with retrieved passages
    context_tokens: int | None = Field(default=None, ge=256)  # None: as the model states it
    temperature: float = Field(default=0.0, ge=0, le=2)
    repetition_penalty: float = Field(default=1.05, ge=1, le=2)  # local models only
    timeout: float = Field(default=60.0, gt=0)  # seconds, of a remote model
    check_grounding: bool = True
    # Passages that answer the question with a lower probability, as the reranker reads them, are no evidence.
    # None: 0.75 with the local model, which cannot tell itself; 0 for others, and nothing where there is no reranker.
    min_evidence: float | None = Field(default=None, ge=0, le=1)
    # From this probability on, or similarity without a reranker, passages stand in for a lost answer.
    quote_threshold: float = Field(default=0.5, ge=-1, le=2)
    # An answer from passages goes on with what they say closest to the question until it has so many words. None: 70
    # with the local model, which often misses the point; 0 for others.
    quote_words: int | None = Field(default=None, ge=0)
    company: str = _SLOTS.company
    tone: str = _SLOTS.tone
    greeting: str = "Hi! Ask me anything about the product."
    suggestions: list[str] = Field(default_factory=list)
    closing: str = _SLOTS.closing
    handoff: str = _SLOTS.handoff
    decline: str = _SLOTS.decline
    quote: str = _SLOTS.quote
    follow_up: str = _SLOTS.follow_up
    examples: str | None = None  # conversations shown in prompt mode, JSONL


class AuthSettings(Table):
    """Say how callers prove who they are."""

    jwt_secret: SecretStr | None = None  # HS256; environment only
    jwks_url: str | None = None  # or the key set of an identity provider
    audience: str | None = None  # expected claim "aud", where one is
    issuer: str | None = None  # expected claim "iss"
    admin_token: SecretStr | None = None  # environment only


class ServeSettings(Table):
    """Say where the server listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)


class TrainingSettings(Table):
    """Set what is learned from, how, and what the gate asks for."""

    logs: list[str] = Field(default_factory=list)  # conversation logs read besides the imported ones
    companies: str | None = None  # folder of invented companies to grow conversations from
    grown: int = Field(default=2600, ge=0)  # conversations to grow, where `companies` is set
    cases: str | None = None  # eval cases that the gate runs
    held_out: str | None = None  # documents kept out of all training prompts, one "source/document" a line
    languages: list[str] = Field(default_factory=lambda: ["en"])  # of conversations to keep
    redact: bool = True  # replace personal data by stand-ins
    counterfactual: float = Field(default=1.0, ge=0, le=1)  # share of searched examples copied with other numbers
    replay: int = Field(default=0, ge=0, le=500)  # general prompts whose answers by the base model are mixed in
    forgetting: list[str] = Field(default_factory=list)  # files of general knowledge; the shipped set without any
    forgetting_items: int = Field(default=1500, ge=50)
    start: str | None = None  # release whose adapter training goes on from; the base model without it
    rank: int = Field(default=16, ge=1, le=256)
    alpha: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    epochs: float | None = Field(default=None, gt=0)  # None: 1, up to 3 where the examples are few
    examples_per_step: int = Field(default=16, ge=1)
    pack_tokens: int = Field(default=2048, ge=128)  # of one sequence; memory grows with it
    validation: float = Field(default=0.04, ge=0, lt=0.5)  # share of the conversations
    patience: int = Field(default=2, ge=1)  # evaluations without a lower loss before a run stops
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    seed: int = 0
    margin: float = Field(default=3.0, ge=0)  # points that a metric may lose against the release in use


class Settings(BaseSettings):
    """Hold all settings; read them with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_",
        env_nested_delimiter="_",
        env_nested_max_split=1,  # without it TANDEM_BOT_MAX_TOKENS is silently ignored
        extra="forbid",
        env_ignore_empty=True,
    )

    sources: list[SourceSettings] = Field(default_factory=list)
    customers: CustomersSettings | None = None
    tickets: RecordsSettings | None = None
    bot: BotSettings = Field(default_factory=BotSettings)
    retrieval: RetrievalSettings = Field(default_factory=RetrievalSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    root: Path = Path(".")  # folder of the config file
    home: Path = Path(".tandem")
    cache: Path | None = None

    def with_model(self, model: str) -> Settings:
        """Return these settings with another [bot] model."""
        return self.model_copy(update={"bot": self.bot.model_copy(update={"model": model})})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over .env, and both over the config file (given as init values)."""
        return env_settings, dotenv_settings, init_settings


def load_settings(config: Path | None = None) -> Settings:
    """Read the config file, .env and environment; `config` defaults to TANDEM_CONFIG or tandem.toml.

    Raises ConfigError that names the setting.
    """
    path = (config or Path(os.environ.get("TANDEM_CONFIG") or "tandem.toml")).absolute()
    values = _read_toml(path)
    env_file = path.parent / ".env"
    _check_names(env_file)
    try:
        settings = Settings(_env_file=env_file, **values, root=path.parent)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None
    except ValueError as error:  # a value that should be JSON and is not
        raise ConfigError(f"{error}. Check the TANDEM_... variables and {env_file.name}.") from None
    update: dict[str, Path] = {"home": settings.root / settings.home}
    if settings.cache:
        update["cache"] = settings.cache.expanduser().absolute()
    return settings.model_copy(update=update)


def settings_of(settings: Settings | Path | None) -> Settings:
    """Return settings that were given, or read them from a config file (by default tandem.toml here)."""
    return settings if isinstance(settings, Settings) else load_settings(settings)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no config file {path}. Run 'tandem init DIR' for a sample, or set TANDEM_CONFIG."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"The config file {path} cannot be read: {error.strerror}.") from None
    for table, key in _SECRETS:
        if isinstance(values.get(table), dict) and key in values[table]:
            raise ConfigError(
                f"[{table}] {key} is a secret: take it out of {path.name} and set "
                f"TANDEM_{table.upper()}_{key.upper()} in the environment or in .env."
            )
    for key in ("home", "cache", "root"):
        if key in values:
            raise ConfigError(f"'{key}' is no setting of {path.name}. Set TANDEM_{key.upper()} instead.")
    return values


def _check_names(env_file: Path) -> None:
    """Refuse a misspelt TANDEM_ variable, which pydantic-settings would pass over."""
    from dotenv import dotenv_values

    names = {*os.environ, *(dotenv_values(env_file) if env_file.is_file() else ())}
    for name in sorted(names):
        if name.startswith("TANDEM_") and name not in _PLAIN and name not in setting_names():
            raise ConfigError(f"{name} is no setting. .env.example lists them all.")


def setting_names() -> dict[str, str]:
    """Return every variable that overrides a setting of a table, with its default as text."""
    names = {}
    for table, field in Settings.model_fields.items():
        model = field.annotation
        for part in getattr(model, "__args__", (model,)):
            if isinstance(part, type) and issubclass(part, BaseModel) and table != "sources":
                for key, item in part.model_fields.items():
                    default = item.get_default(call_default_factory=True)
                    names[f"TANDEM_{table}_{key}".upper()] = "" if item.is_required() else str(default)
    return names


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: there is no such setting")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    return f"{path.name} or a TANDEM_ variable is wrong. " + "; ".join(lines)
