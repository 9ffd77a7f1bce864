"""The settings: what overrides what, and errors that name the setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.bootstrap import _MIN_EVIDENCE, build_model, options, reranker_of
from bot.errors import ConfigError, ModelMissing
from bot.settings import load_settings, setting_names
from tests.bot.world import ROOT
from tests.conftest import Deployment

BESIDE_THE_TABLES = {"TANDEM_HOME", "TANDEM_CACHE", "TANDEM_CONFIG"}


def test_every_setting_has_a_default(deployment: Deployment) -> None:
    deployment.configure("")
    settings = load_settings()
    assert settings.bot.max_tokens == 220
    assert settings.sources == []
    assert settings.home == deployment.home


def test_a_name_with_underscores_is_overridden(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_BOT_MAX_TOKENS", "77")
    monkeypatch.setenv("TANDEM_RETRIEVAL_MIN_SIMILARITY", "0.42")
    monkeypatch.setenv("TANDEM_AUTH_JWT_SECRET", "a secret")
    settings = load_settings()
    assert settings.bot.max_tokens == 77
    assert settings.retrieval.min_similarity == 0.42
    assert settings.auth.jwt_secret is not None
    assert settings.auth.jwt_secret.get_secret_value() == "a secret"
    assert settings.bot.company == "Example"  # the rest of the table stays


def test_the_environment_wins_over_dotenv_and_both_over_the_file(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.configure('[bot]\ntone = "file"\ncompany = "file"\nclosing = "file"\n')
    (deployment.root / ".env").write_text("TANDEM_BOT_COMPANY=dotenv\nTANDEM_BOT_CLOSING=dotenv\n", encoding="utf-8")
    monkeypatch.setenv("TANDEM_BOT_CLOSING", "environment")
    bot = load_settings().bot
    assert (bot.tone, bot.company, bot.closing) == ("file", "dotenv", "environment")


def test_every_documented_variable_is_taken(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    names = setting_names()
    assert {"TANDEM_BOT_MAX_TOKENS", "TANDEM_CUSTOMERS_PATH", "TANDEM_SERVE_PORT"} <= set(names)
    for name, default in names.items():
        if default and default != "None":
            monkeypatch.setenv(name, default.replace("'", '"'))  # lists as JSON
    monkeypatch.setenv("TANDEM_CUSTOMERS_PATH", "customers.jsonl")
    monkeypatch.setenv("TANDEM_TICKETS_PATH", "tickets.jsonl")
    assert load_settings().customers is not None


def test_an_empty_variable_is_none(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_BOT_MAX_TOKENS", "")
    assert load_settings().bot.max_tokens == 220


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[bot]\nmax_tokns = 5\n", "bot.max_tokns"),
        ("[bott]\nmodel = 'local'\n", "bott"),
        ("[bot]\nmax_tokens = 'many'\n", "bot.max_tokens"),
        ("[bot]\nmax_tokens = 0\n", "bot.max_tokens"),
        ("[bot]\nengine = 'steam'\n", "bot.engine"),
        ("[bot]\nmin_evidence = -0.1\n", "bot.min_evidence"),
        ("[bot]\nmin_evidence = 1.1\n", "bot.min_evidence"),
        ("[bot]\nmin_evidence = 'some'\n", "bot.min_evidence"),
        ("[retrieval]\ntop_k = 0\n", "retrieval.top_k"),
        ("[retrieval]\nreranker = 'some/model'\n", "retrieval.reranker"),
        ("[[sources]]\nname = 'help'\n", "needs 'path'"),
        ("[[sources]]\nname = 'help'\npath = 'x'\ncolour = 'red'\n", "sources.0.colour"),
        ("[[sources]]\nname = 'a b'\npath = 'x'\n", "sources.0.name"),
        ("[customers]\nkind = 'jsonl'\n", "customers.path"),
        ("home = 'elsewhere'\n", "TANDEM_HOME"),
        ("[bot\n", "not valid TOML"),
        ("[auth]\njwt_secret = 'x'\n", "TANDEM_AUTH_JWT_SECRET"),
        ("[auth]\nadmin_token = 'x'\n", "TANDEM_AUTH_ADMIN_TOKEN"),
        ("[bot]\napi_key = 'x'\n", "TANDEM_BOT_API_KEY"),
    ],
)
def test_a_wrong_file_is_refused_with_the_name_of_the_setting(deployment: Deployment, toml: str, named: str) -> None:
    deployment.configure(toml)
    with pytest.raises(ConfigError, match=re.escape(named)):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("TANDEM_BOT_MAX_TOKNS", "5", "TANDEM_BOT_MAX_TOKNS"),
        ("TANDEM_NOTHING", "5", "TANDEM_NOTHING"),
        ("TANDEM_BOT_MAX_TOKENS", "many", "bot.max_tokens"),
        ("TANDEM_BOT_SUGGESTIONS", "no JSON", "bot"),
        ("TANDEM_SERVE_PORT", "70000", "serve.port"),
    ],
)
@pytest.mark.parametrize("in_dotenv", [False, True])
def test_a_wrong_variable_is_refused_by_its_name(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str, in_dotenv: bool
) -> None:
    if in_dotenv:
        (deployment.root / ".env").write_text(f"{name}={value}\n", encoding="utf-8")
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=re.escape(named)):
        load_settings()


@pytest.mark.parametrize(
    ("toml", "least"),
    [
        ("", _MIN_EVIDENCE),
        ("model = 'local'", _MIN_EVIDENCE),
        ("model = 'openai:gpt-4o'", 0.0),
        ("model = 'HuggingFaceTB/SmolLM2-360M-Instruct'", 0.0),
        ("min_evidence = 0", 0.0),
        ("min_evidence = 0.3", 0.3),
        ("model = 'openai:gpt-4o'\nmin_evidence = 0.3", 0.3),
        ("min_evidence = 1", 1.0),
    ],
)
def test_evidence_is_asked_for_where_the_model_cannot_tell(deployment: Deployment, toml: str, least: float) -> None:
    deployment.configure(f"[bot]\n{toml}\n")
    assert options(load_settings()).min_evidence == least
    assert 0.5 <= _MIN_EVIDENCE < 1


@pytest.mark.parametrize(
    ("toml", "there"),
    [
        ("", True),
        ("reranker = true", True),
        ("reranker = false", False),
        ("embedder = 'langchain_core.embeddings.DeterministicFakeEmbedding'", False),
        ("embedder = 'langchain_core.embeddings.DeterministicFakeEmbedding'\nreranker = true", False),
    ],
)
def test_the_reranker_goes_with_the_local_embedder(deployment: Deployment, toml: str, there: bool) -> None:
    deployment.configure(f"[retrieval]\n{toml}\n")
    assert (reranker_of(load_settings()) is not None) == there


def test_the_reranker_can_be_left_out_by_a_variable(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_RETRIEVAL_RERANKER", "false")
    assert reranker_of(load_settings()) is None


def test_a_secret_is_not_shown(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_AUTH_JWT_SECRET", "hush")
    assert "hush" not in repr(load_settings())


def test_a_missing_file_is_said(deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match="tandem init"):
        load_settings(deployment.root / "nowhere.toml")


def test_a_folder_in_place_of_the_file_is_said(deployment: Deployment) -> None:
    with pytest.raises(ConfigError):
        load_settings(deployment.root)


def test_a_relative_home_is_relative_to_the_file(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("TANDEM_HOME", "state/of/mine")
    assert load_settings().home == deployment.root / "state/of/mine"
    monkeypatch.delenv("TANDEM_HOME")
    assert load_settings().home == deployment.root / ".tandem"


def test_home_may_stand_in_dotenv(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_HOME")
    (deployment.root / ".env").write_text("TANDEM_HOME=mine\n", encoding="utf-8")
    assert load_settings().home == deployment.root / "mine"


def test_cache_may_stand_in_dotenv(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TANDEM_CACHE", raising=False)
    (deployment.root / ".env").write_text(f"TANDEM_CACHE={tmp_path}\n", encoding="utf-8")
    with pytest.raises(ModelMissing, match=re.escape(str(tmp_path))):
        build_model(load_settings())


def test_the_config_file_here_is_the_default(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_CONFIG")
    monkeypatch.chdir(deployment.root)
    assert load_settings().bot.company == "Example"
    assert load_settings().root == deployment.root


def test_the_sample_env_file_lists_every_variable() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = re.findall(r"^#?\s*(TANDEM_[A-Z_]+)=", text, re.MULTILINE)
    assert sorted(set(listed) - BESIDE_THE_TABLES) == sorted(setting_names())
    assert len(listed) == len(set(listed))


def test_the_sample_config_is_valid() -> None:
    assert load_settings(ROOT / "tandem.toml").bot.company == "Brightfold"
