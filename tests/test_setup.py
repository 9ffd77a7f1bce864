"""Set-up: refusals in one line, nothing done twice, killed calls healed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "scripts"
FAKE_PIP = """
import pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls: calls.write(" ".join(sys.argv[1:]).replace(chr(10), " ") + chr(10))
print((here / "says").read_text())
sys.exit(int((here / "status").read_text()))
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("environment")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("a==1\n")
    return module


@pytest.fixture
def targets(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("setup")


@pytest.fixture
def fake_pip(environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the environment's Python: notes its arguments, says `says`, exits with `status`."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a script with a shebang")
    folder = tmp_path / "fake"
    folder.mkdir()
    (tmp_path / ".venv").mkdir()
    (folder / "says").write_text("Collecting a")
    (folder / "status").write_text("0")
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\n{FAKE_PIP}")
    program.chmod(0o755)
    monkeypatch.setattr(environment, "program", lambda name: str(program))
    return folder


def calls(fake: Path) -> list[str]:
    noted = fake / "calls"
    return noted.read_text().splitlines() if noted.exists() else []


def error_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["setup.py", "environment.py"])
def test_the_scripts_can_be_read_by_an_old_python(name: str) -> None:
    source = (SCRIPTS / name).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source  # unknown to Python 3.6


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 10, 14), (3, 14, 0)])
def test_another_python_is_refused_in_one_line(
    targets: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, int, int],
) -> None:
    monkeypatch.setattr(targets.sys, "version_info", version)
    assert targets.main(["run"]) == 1
    (line,) = error_lines(capsys)
    assert "needs Python 3.11, 3.12 or 3.13" in line
    assert "{}.{}.{}".format(*version) in line


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 13, 9)])
def test_served_pythons_pass(environment: ModuleType, version: tuple[int, int, int]) -> None:
    environment.check_python(version)


@pytest.mark.enable_socket
def test_a_taken_port_is_refused_before_anything_is_installed(
    targets: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets, "prepare", lambda sets: pytest.fail("installed before looking at the port"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        assert targets.main(["run"]) == 1
    expected = f"Port {port} is taken. Stop the other program or choose another: PORT={port + 1} make run"
    assert error_lines(capsys) == [expected]


@pytest.mark.enable_socket
def test_a_free_port_is_taken_as_it_is(targets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    monkeypatch.setenv("PORT", str(port))
    assert targets.chosen_port() == port


@pytest.mark.parametrize("text", ["abc", "-1", "0", "70000"])
def test_what_is_no_port_is_refused(
    targets: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv("PORT", text)
    assert targets.main(["run"]) == 1
    (line,) = error_lines(capsys)
    assert f"PORT={text} is no port" in line


def test_an_unknown_target_is_a_usage_error(targets: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert targets.main(["serve"]) == 2
    (line,) = error_lines(capsys)
    assert "bench, check, help, run, setup, test" in line


def test_make_offers_every_target_and_help_names_them(targets: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^(\w+): ;", makefile, re.MULTILINE)) == sorted(targets.TARGETS)
    assert targets.main(["help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in targets.TARGETS)


def test_a_second_call_installs_nothing(environment: ModuleType, fake_pip: Path) -> None:
    environment.ensure_packages(["serve", "train", "dev"])
    environment.ensure_packages(["serve", "train", "dev"])
    environment.ensure_packages(["serve"])  # `run` after `setup` removes nothing either
    (call,) = calls(fake_pip)
    assert "install --editable .[train,dev] --constraint constraints.txt" in call


def test_more_is_installed_when_more_is_wanted_or_pins_change(
    environment: ModuleType, fake_pip: Path, tmp_path: Path
) -> None:
    environment.ensure_packages(["serve"])
    environment.ensure_packages(["serve", "train", "dev"])
    assert "install --editable . --constraint" in calls(fake_pip)[0]
    assert len(calls(fake_pip)) == 2
    (tmp_path / "constraints.txt").write_text("a==2\n")
    environment.ensure_packages(["serve"])
    assert len(calls(fake_pip)) == 3


def test_no_network_is_said_in_one_line_and_tried_again(
    environment: ModuleType, fake_pip: Path, tmp_path: Path
) -> None:
    (fake_pip / "status").write_text("1")
    warning = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('"
    (fake_pip / "says").write_text(f"{warning}\nERROR: No matching distribution found for a")
    with pytest.raises(environment.Failure) as failure:
        environment.ensure_packages(["serve"])
    line = str(failure.value)
    assert line.startswith(
        "No network: the package index could not be reached. Connect and run the same command again."
    )
    assert "\n" not in line
    log = tmp_path / ".venv" / "tandem-install.log"
    assert str(log) in line
    assert warning in log.read_text()
    (fake_pip / "status").write_text("0")
    environment.ensure_packages(["serve"])
    # The failed call may have left half copies, so they were looked for in between.
    assert [call.split()[0] for call in calls(fake_pip)] == ["-m", "-c", "-m"]


def test_another_failure_of_pip_keeps_its_last_error(environment: ModuleType, fake_pip: Path) -> None:
    (fake_pip / "status").write_text("1")
    (fake_pip / "says").write_text("ERROR: first\nERROR: No matching distribution found for a==9\nhint")
    with pytest.raises(environment.Failure, match="Installing failed: ERROR: No matching distribution found for a==9"):
        environment.ensure_packages(["serve"])


def test_a_damaged_stamp_counts_as_none(environment: ModuleType, tmp_path: Path) -> None:
    stamp = tmp_path / "stamp.json"
    for damaged in ("", '{"serve": ', "[1]"):
        stamp.write_text(damaged)
        assert environment.read_stamp(str(stamp)) == {}
    environment.write_stamp(str(stamp), {"serve": "x"})
    assert environment.read_stamp(str(stamp)) == {"serve": "x"}
    assert [path.name for path in tmp_path.glob("stamp*")] == ["stamp.json"]


def test_half_copied_packages_are_forgotten_and_whole_ones_kept(environment: ModuleType, tmp_path: Path) -> None:
    for name in ("whole", "half", "unrecorded"):
        record = tmp_path / f"{name}-1.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        if name != "unrecorded":
            (record / "RECORD").write_text(f"{name}.py,,\n{name}.pyc,,\n")
    (tmp_path / "whole.py").write_text("")
    code = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(tmp_path)!r}]\n"
    subprocess.run([sys.executable, "-S", "-c", code + environment.FORGET_HALF_COPIES], check=True)
    assert [path.name for path in tmp_path.glob("*.dist-info")] == ["whole-1.dist-info"]


def test_a_second_set_up_waits_for_the_first(environment: ModuleType, tmp_path: Path) -> None:
    with environment.alone(), open(tmp_path / ".venv.lock", "w") as second:
        assert not environment.try_lock(second)
    with open(tmp_path / ".venv.lock", "w") as second:
        assert environment.try_lock(second)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.5, 1.5, 2.5])
def test_a_killed_creation_is_completed_by_the_next_call(
    environment: ModuleType, tmp_path: Path, seconds: float
) -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import environment\n"
    code += f"environment.ROOT = {str(tmp_path)!r}\nenvironment.ensure_venv()"
    # In a group of its own, so that the venv and ensurepip below it die as well.
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(seconds)
    kill_group(child)
    environment.ensure_venv()
    assert environment.python_works()
    assert json.loads((tmp_path / ".venv" / "tandem-venv.json").read_text())
    next((tmp_path / ".venv").glob("lib/*/site-packages/pip/_internal/__init__.py")).unlink()
    assert not environment.python_works()


def kill_group(child: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        pytest.skip("needs process groups")
    import os

    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
