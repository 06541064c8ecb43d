"""An import, a backup, a store that is lost: what was taken in once is not taken in again after the restore."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.command import run
from tests.imports.conftest import legacy_file, plain_row
from tests.support.admin import execute


def change(address: str, *statements: str) -> None:
    """Run statements on a store of either kind."""
    if "://" in address:
        execute(address, *statements)
        return
    with closing(sqlite3.connect(address)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def lose(address: str) -> None:
    """Nothing is left of the store."""
    if "://" in address:
        execute(address, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return
    for suffix in ("", "-wal", "-shm"):
        Path(f"{address}{suffix}").unlink(missing_ok=True)


def test_an_import_after_a_restore_brings_nobody_back(address: str, tmp_path: Path) -> None:
    """Neither into a store that was lost, nor into an empty one; the row of an ended session is gone long since."""
    token, user, _, *rest = plain_row("session-odd", user="bob")
    source = legacy_file(
        tmp_path / "old.db", [plain_row("session-1"), plain_row("session-2"), (token, user, "x", *rest)]
    )
    option = ["--postgres" if "://" in address else "--sqlite", address]
    importing = ["db", "import", "--from-sqlite", str(source), "--legacy-tz", "UTC", "--json", *option]
    assert json.loads(run(*importing, folder=tmp_path).stdout)["new"] == 3
    change(address, "DELETE FROM sessions WHERE user_id = 'bob'")
    made = run("db", "backup", *option, "--json", folder=tmp_path)
    backup = json.loads(made.stdout)["path"]
    for empty in (False, True):
        lose(address)
        if empty:
            assert run("db", "upgrade", *option, folder=tmp_path).returncode == 0
        restoring = ["db", "restore", backup, *option, "--keep-sessions-live", "--yes", "--json"]
        restored = run(*restoring, folder=tmp_path)
        assert restored.returncode == 0, restored.stderr
        again = json.loads(run(*importing, folder=tmp_path).stdout)
        assert (again["rows"], again["new"]) == (3, 0)
        listed = run("sessions", "list", *option, "--json", folder=tmp_path)
        assert sorted(each["user_id"] for each in json.loads(listed.stdout)) == ["alice", "alice"]
