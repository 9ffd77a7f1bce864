"""The one place that names concrete classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bot import weights
from bot.errors import ConfigError, ModelError, ModelMissing
from bot.models import ChatModel, Sampling
from bot.releases import SHIPPED, Release, Releases
from bot.settings import Settings, settings_of
from bot.weights.errors import WeightsMissing
from prompts.messages import Message, Slots
from retrieval.embedders import Embedder
from retrieval.generations import Generations
from retrieval.records import Records

if TYPE_CHECKING:
    from bot.answer import BotOptions, SupportBot
    from bot.speakers import Speakers
    from bot.turns import TurnLog
    from retrieval.refresh import Refresher
    from retrieval.reranker import Reranker
    from retrieval.search import Searcher

_QUOTE_WORDS = 70  # of an answer by the local model, where the settings say nothing
_MIN_EVIDENCE = 0.75  # below which passages are no evidence to the local model, which cannot tell itself
_SHOWN_EXAMPLES = 3  # conversations that prompt mode shows


def build_bot(settings: Settings | Path | None = None, turns: TurnLog | None = None) -> SupportBot:
    """Build the bot that the settings describe, with the deployment's turn log unless another is given."""
    from bot.answer import SupportBot

    settings = settings_of(settings)
    records = build_records(settings)
    return SupportBot(
        build_speakers(settings),
        build_searcher(settings, records),
        records,
        turns or build_turns(settings),
        options(settings),
    )


def build_releases(settings: Settings) -> Releases:
    """Build the keeper of this deployment's releases; the shipped one belongs to the local base model."""
    return Releases(settings.home / "releases", SHIPPED if settings.bot.model == "local" else None)


def build_speakers(settings: Settings) -> Speakers:
    """Build what gives each mode its model; no release changes a remote one."""
    from bot.speakers import Speakers

    base = base_folder(settings)
    if base is None:
        return Speakers(lambda: build_model(settings))
    return Speakers(lambda: build_model(settings), build_releases(settings), lambda r: build_release(settings, r))


def build_release(settings: Settings, release: Release) -> ChatModel:
    """Load the model of a release, converting it first where that is still to do."""
    from bot.conversion import converted

    if release.model:
        return build_model(settings.with_model(release.model))
    base = base_folder(settings)
    if base is None:
        raise ModelError(f"'{release.name}' is an adapter, and [bot] model = '{settings.bot.model}' is remote.")
    return _local_model(converted(release, base, settings.bot.engine, settings.cache), settings.bot.engine)


def base_folder(settings: Settings, name: str | None = None) -> Path | None:
    """Return the folder of the base model that `name` or [bot] model gives, None for a remote one."""
    name = name or settings.bot.model
    if name == "local":
        try:
            return weights.chat_model_folder(settings.cache)
        except WeightsMissing as error:
            raise ModelMissing(str(error)) from None
    folder = settings.root / Path(name).expanduser()
    if folder.is_dir():
        return folder
    if ":" not in name and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name)
    return None


def build_records(settings: Settings) -> Records:
    """Build the reader of customers and tickets."""
    return Records(settings.customers, settings.tickets, settings.root)


def build_searcher(settings: Settings, records: Records | None = None) -> Searcher:
    """Build the one retrieval path."""
    from retrieval.reader import KnowledgeReader
    from retrieval.search import Searcher

    return Searcher(
        KnowledgeReader(build_generations(settings)),
        build_embedder(settings),
        records or build_records(settings),
        settings.retrieval,
        reranker_of(settings),
    )


def reranker_of(settings: Settings) -> Callable[[], Reranker] | None:
    """Return what loads the reranker, None where the settings have none; its ratings go with the local embedder's."""
    if not settings.retrieval.reranker or settings.retrieval.embedder != "local":
        return None

    def load() -> Reranker:
        from retrieval.reranker import Reranker

        return Reranker(_encoder_folder(settings))

    return load


def build_generations(settings: Settings) -> Generations:
    """Build the keeper of this deployment's generations."""
    return Generations(settings.home / "knowledge")


def build_refresher(settings: Settings) -> Refresher:
    """Build the refresh of this deployment's sources."""
    from retrieval.refresh import Refresher

    return Refresher(
        build_generations(settings),
        settings.sources,
        settings.root,
        build_embedder(settings),
        settings.retrieval,
    )


def build_turns(settings: Settings) -> TurnLog:
    """Open the turn log, bringing its tables to the newest version."""
    from bot.state import open_state
    from bot.turns import TurnLog

    return TurnLog(open_state(settings.home / "state.sqlite3"))


def build_embedder(settings: Settings) -> Embedder:
    """Build the embedder that the settings name."""
    from retrieval.embedders.choose import choose_embedder

    name = settings.retrieval.embedder
    folder = _encoder_folder(settings) if name == "local" else Path()
    return choose_embedder(name, settings.retrieval.embedder_options, folder)


def _encoder_folder(settings: Settings) -> Path:
    try:
        return weights.embedder_folder(settings.cache)
    except WeightsMissing as error:
        raise ModelMissing(str(error)) from None


def build_model(settings: Settings) -> ChatModel:
    """Build the chat model that [bot] model names."""
    bot = settings.bot
    folder = base_folder(settings)
    if folder is not None:
        return _local_model(folder, bot.engine)
    provider, _, rest = bot.model.partition(":")
    key = bot.api_key.get_secret_value() if bot.api_key else None
    if provider == "openai" and rest:
        from bot.models.remote import OpenAIModel

        return OpenAIModel(
            rest, base_url=bot.base_url, api_key=key, timeout=bot.timeout, context_tokens=bot.context_tokens
        )
    if rest and len(provider) > 1:  # a single letter is a Windows drive
        from bot.models.remote import LangChainModel

        return LangChainModel(bot.model, timeout=bot.timeout, context_tokens=bot.context_tokens)
    raise ConfigError(
        f"[bot] model = '{bot.model}' is no folder here. Give 'local', a folder, a Hugging Face id such as "
        "'org/name', 'openai:<model>', or '<provider>:<model>' as LangChain names it."
    )


def _local_model(folder: Path, engine: str) -> ChatModel:
    if not (folder / "config.json").is_file() or not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{folder} holds no model: config.json and tokenizer.json are expected in it.")
    try:
        return _load(folder, engine)
    except ModelError:
        raise
    except Exception as error:  # of a damaged folder the libraries raise what they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"The model in {folder} cannot be loaded: {reason}") from error


def _load(folder: Path, engine: str) -> ChatModel:
    from bot.models.local import OpenVinoModel, TransformersModel

    if engine == "openvino":
        if (folder / "openvino_model.xml").is_file():
            return OpenVinoModel(folder, folder)
        for path in sorted(folder.glob("*.gguf")):
            return OpenVinoModel(folder, path)
    return TransformersModel(folder)


def _download(name: str) -> Path:
    """Fetch a model from the Hugging Face hub into its own cache, or raise ModelError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model"]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"The model '{name}' cannot be fetched from the Hugging Face hub: {reason}") from error


def options(settings: Settings) -> BotOptions:
    """Take from the settings what the bot needs."""
    from bot.answer import BotOptions

    bot = settings.bot
    return BotOptions(
        slots=Slots(
            company=bot.company,
            tone=bot.tone,
            closing=bot.closing,
            handoff=bot.handoff,
            decline=bot.decline,
            quote=bot.quote,
            follow_up=bot.follow_up,
        ),
        sampling=Sampling(bot.max_tokens, bot.temperature, bot.repetition_penalty),
        prompt_tokens=bot.prompt_tokens,
        top_k=settings.retrieval.top_k,
        words=settings.retrieval.words,
        min_similarity=settings.retrieval.min_similarity,
        check_grounding=bot.check_grounding,
        quote_threshold=bot.quote_threshold,
        min_evidence=bot.min_evidence if bot.min_evidence is not None else _MIN_EVIDENCE * (bot.model == "local"),
        quote_words=bot.quote_words if bot.quote_words is not None else _QUOTE_WORDS * (bot.model == "local"),
        has_sources=bool(settings.sources),
        examples=_examples(settings),
    )


def _examples(settings: Settings) -> tuple[Message, ...]:
    """Read the exchanges that prompt mode shows: the first of each conversation in the file."""
    if not settings.bot.examples:
        return ()
    path = settings.root / settings.bot.examples
    shown: list[Message] = []
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        for line in lines[:_SHOWN_EXAMPLES]:
            messages = [m for m in json.loads(line)["messages"] if m["role"] != "system"][:2]
            shown += [Message(m["role"], m["content"]) for m in messages]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"[bot] examples: {path} is not a file of conversations: {error}") from error
    return tuple(shown)
