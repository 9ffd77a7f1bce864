"""`tandem init`, `doctor`, `serve`, and what is said of a wrong configuration."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn

import bot.bootstrap
from bot.errors import ModelMissing
from bot.settings import load_settings
from cli.init import sample_folder
from tests.cli.conftest import SECRETS, Tandem
from tests.cli.kit import REPLY
from tests.conftest import Deployment
from tests.stand_ins import HashEmbedder, ScriptedModel

ReplyWith = Callable[..., ScriptedModel]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Set every secret; gives what must never be printed."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return list(SECRETS.values())


# The configuration


@pytest.mark.parametrize("command", [("refresh", "--json"), ("search", "x"), ("ask", "x"), ("serve",), ("eval",)])
def test_a_bad_key_is_named_in_one_line(deployment: Deployment, tandem: Tandem, command: tuple[str, ...]) -> None:
    deployment.configure('[bot]\ncompny = "Example"\n')
    ran = tandem(*command)
    assert ran.status == 2 and "bot.compny" in ran.complaint


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[retrieval]\ntop_k = 0\n", "retrieval.top_k"),
        ('[[sources]]\nname = "help"\n', "path"),
        ("[bot\n", "TOML"),
        ('[auth]\njwt_secret = "in-the-wrong-place"\n', "TANDEM_AUTH_JWT_SECRET"),
    ],
)
def test_a_wrong_config_file(deployment: Deployment, tandem: Tandem, toml: str, named: str) -> None:
    deployment.configure(toml)
    ran = tandem("refresh")
    assert ran.status == 2 and named in ran.complaint and "in-the-wrong-place" not in ran.err


def test_an_error_is_the_only_line(deployment: Deployment, tandem: Tandem) -> None:
    deployment.config.unlink()
    assert tandem("refresh").err.count("\n") == 1


def test_a_missing_config_file(deployment: Deployment, tandem: Tandem) -> None:
    deployment.config.unlink()
    ran = tandem("refresh", "--json")
    assert ran.status == 2 and str(deployment.config) in ran.complaint and "tandem init" in ran.complaint


def test_a_misspelt_variable_is_named_without_its_value(deployment: Deployment, tandem: Tandem) -> None:
    (deployment.root / ".env").write_text("TANDEM_BOT_APIKEY=sk-never-printed\n")
    ran = tandem("refresh")
    assert ran.status == 2 and "TANDEM_BOT_APIKEY" in ran.complaint and "sk-never" not in ran.err


def test_a_home_that_cannot_be_written(shop: Deployment, tandem: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(shop.config / "home"))
    ran = tandem("refresh")
    assert ran.status in (1, 2) and "home" in ran.complaint


# init


def test_init_writes_a_folder_that_refreshes(
    deployment: Deployment, tandem: Tandem, embedder: HashEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    assert tandem("init", folder).status == 0
    assert (folder / ".env.example").is_file()
    monkeypatch.setenv("TANDEM_CONFIG", str(folder / "tandem.toml"))
    monkeypatch.delenv("TANDEM_HOME")
    report = tandem("refresh", "--json").json
    assert (report["published"], report["documents"], report["skipped"]) == (True, 74, [])
    assert (folder / ".tandem" / "knowledge").is_dir()
    assert len(bot.bootstrap.build_records(load_settings()).customers()) == 40


def test_init_takes_an_empty_folder(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert tandem("init", tmp_path / "empty").status == 0
    assert (tmp_path / "empty" / "tandem.toml").read_bytes() == (sample_folder() / "tandem.toml").read_bytes()


@pytest.mark.parametrize("name", ["used", "used/notes.txt"])
def test_init_refuses_what_is_not_an_empty_folder(tandem: Tandem, tmp_path: Path, name: str) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    ran = tandem("init", tmp_path / name)
    assert ran.status == 2 and "not empty" in ran.complaint
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["notes.txt"]


def test_init_prints_its_next_command_in_one_piece(tandem: Tandem, tmp_path: Path) -> None:
    folder = tmp_path / ("long-name-of-a-folder-" * 5)
    assert f"cd {folder} && tandem refresh && tandem serve --demo" in tandem("init", folder).out


# doctor


def test_doctor_on_a_whole_deployment(ready: Deployment, tandem: Tandem, reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    ran = tandem("doctor", "--json")
    assert ran.status == 0 and ran.json["ok"] is True
    assert {tuple(check) for check in ran.json["checks"]} == {("name", "ok", "message", "required")}
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert all(check["ok"] for check in checks.values() if check["required"])
    assert "2 customers" in checks["records"]["message"] and "3 documents" in checks["knowledge"]["message"]
    assert "FAIL" not in tandem("doctor").out


def test_doctor_names_what_fails(
    shop: Deployment, tandem: Tandem, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(settings: object) -> None:
        raise ModelMissing("The weights are not here. Run make setup.")

    monkeypatch.setattr(bot.bootstrap, "build_model", missing)
    ran = tandem("doctor", "--json")
    assert ran.status == 1 and ran.json["ok"] is False
    failed = {check["name"]: check["message"] for check in ran.json["checks"] if not check["ok"] and check["required"]}
    assert set(failed) == {"model", "knowledge"}
    assert "make setup" in failed["model"] and "tandem refresh" in failed["knowledge"]
    assert "FAIL  model" in tandem("doctor").out


def test_doctor_without_a_config_file(deployment: Deployment, tandem: Tandem) -> None:
    deployment.config.unlink()
    ran = tandem("doctor", "--json")
    first = ran.json["checks"][0]
    assert ran.status == 1 and (first["name"], first["ok"]) == ("configuration", False) and "init" in first["message"]


def test_doctor_on_a_damaged_model(ready: Deployment, tandem: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    (ready.root / "model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (ready.root / "model" / name).write_text("{}")
    monkeypatch.setenv("TANDEM_BOT_MODEL", "model")
    assert tandem("doctor", "--json").json["ok"] is False


# Secrets


def test_no_secret_is_printed(
    ready: Deployment,
    tandem: Tandem,
    reply_with: ReplyWith,
    secrets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply_with(REPLY)
    caplog.set_level("DEBUG")
    printed = []
    for words in (("doctor",), ("doctor", "--json"), ("ask", "How do I export?", "--json")):
        printed.append(tandem(*words))
    monkeypatch.setenv("TANDEM_BOT_TEMPERATURE", "hot")
    for words in (("doctor",), ("refresh",), ("serve", "--demo", "--host", "0.0.0.0")):
        printed.append(tandem(*words))
    assert [ran.status for ran in printed] == [0, 0, 0, 1, 2, 2]
    assert [s for s in secrets for ran in printed if s in ran.out + ran.err + caplog.text] == []


@pytest.fixture
def indiscreet_server() -> Iterator[str]:
    """Serve an OpenAI-shaped server that refuses every key and repeats it, as some proxies do."""

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = f"Incorrect API key provided: {self.headers['Authorization']}"
            body = json.dumps({"error": {"message": message, "code": "invalid_api_key"}}).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join(10)


def test_a_key_that_the_server_repeats_is_not_printed(
    ready: Deployment, tandem: Tandem, secrets: list[str], indiscreet_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_BOT_MODEL", "openai:any")
    monkeypatch.setenv("TANDEM_BOT_BASE_URL", indiscreet_server)
    ran = tandem("ask", "How do I export my data as CSV?")
    assert ran.status == 1 and "openai:any refused" in ran.err
    assert SECRETS["TANDEM_BOT_API_KEY"] not in ran.out + ran.err


# serve


@pytest.fixture
def never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the server would be started."""

    def run(*args: object, **options: object) -> None:
        raise AssertionError("the server was started")

    monkeypatch.setattr(uvicorn, "run", run)


@pytest.mark.usefixtures("never_served")
def test_a_port_that_is_taken(deployment: Deployment, tandem: Tandem) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = tandem("serve", "--port", port)
    assert ran.status == 2 and f"Port {port}" in ran.complaint and "--port" in ran.complaint


@pytest.mark.usefixtures("never_served")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_the_demo_listens_on_loopback_only(deployment: Deployment, tandem: Tandem, host: str) -> None:
    ran = tandem("serve", "--demo", "--host", host)
    assert ran.status == 2 and "loopback" in ran.complaint
    deployment.configure(f'[serve]\nhost = "{host}"\n')
    assert tandem("serve", "--demo").status == 2


# The installed command


def test_the_installed_command_keeps_stdout_for_json(installed: Tandem, deployment: Deployment) -> None:
    """With the real embedder where its weights lie; else the error tells what brings them."""
    shutil.copytree(sample_folder() / "examples" / "internal", deployment.root / "knowledge", dirs_exist_ok=True)
    report = installed("refresh", "--json", env={"LOGLEVEL": "DEBUG"})
    if report.status == 1 and "weights" in report.err:
        pytest.skip(report.err)
    assert report.json["published"] is True and report.json["documents"] == 4
    assert "published g000001" in report.err  # the log
    found = installed("search", "Who may refund a payment?", "--json", env={"LOGLEVEL": "INFO"})
    assert found.json["hits"][0]["document"] == "refund-authority.md"


def test_the_installed_command_fails_in_one_line(installed: Tandem, deployment: Deployment) -> None:
    deployment.configure('[bot]\ncompny = "Example"\n')
    ran = installed("refresh", "--json")
    assert ran.status == 2 and "bot.compny" in ran.complaint
    assert installed("no-such-command").status == 2
    assert installed("--help").status == 0
