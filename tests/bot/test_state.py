"""The state database: its migrations, and processes that open it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from bot.state import Base, open_state
from bot.turns import Caller, TurnLog
from tests.bot.world import ROOT

OPEN = """
import sys
from pathlib import Path
from bot.state import open_state
from bot.turns import Caller, TurnLog
print("ready", flush=True)
sys.stdin.readline()
log = TurnLog(open_state(Path(sys.argv[1])))
for _ in range(20):
    log.begin(Caller(sys.argv[2]))
log.close()
"""


def test_the_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    engine = open_state(tmp_path / "new" / "state.sqlite3")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "100 % state.sqlite3"
    first = TurnLog(open_state(path))
    name = first.begin(Caller("cus_1"))
    second = TurnLog(open_state(path))
    assert second.owner(name) == first.owner(name) == Caller("cus_1")
    first.close()
    second.close()


def test_foreign_keys_are_enforced_and_readers_do_not_wait(tmp_path: Path) -> None:
    engine = open_state(tmp_path / "state.sqlite3")
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    engine.dispose()


def test_processes_that_open_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path), f"cus_{n}"], cwd=ROOT, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:  # all have imported by now, so that they open together
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    engine = open_state(path)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM conversations")) == 60
    engine.dispose()
