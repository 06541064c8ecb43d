"""`holdfast move` on an application's own file: odd rows are listed, and nothing is lost that nobody gave up."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import run
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")


async def test_an_operator_moves_a_legacy_file(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Move 29, 40: plan counts and names the odd rows; each refusal names the option that was wanted; then it moves."""
    path = legacy_file(tmp_path / "legacy.db")
    old = OldSessionManager(path)
    tokens = [old.create_session(f"u{number}") for number in range(5)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessions SET metadata = 'no json' WHERE user_id = 'u1'")
        connection.execute("UPDATE sessions SET expires_at = 'never' WHERE user_id = 'u2'")
    variables = {"HOLDFAST_SQLITE_PATH": str(path), "DATABASE_URL": migrated_database(None), "TZ": "Europe/Berlin"}

    async def move(*arguments: str, code: int = 0) -> Any:
        done = await asyncio.to_thread(run, "move", *arguments, folder=tmp_path, **variables)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert not [token for token in tokens if token in done.stdout + done.stderr]
        return json.loads(done.stdout) if "--json" in arguments and done.stdout else done.stderr

    plan = await move("plan", "--json")
    classes = plan["classes"]
    assert classes["exact"] + classes["repaired"] + classes["quarantined"] == classes["rows"] == 5
    assert {(each["class"], each["live"]) for each in classes["odd"]} == {("repaired", True), ("quarantined", True)}
    await move("start", "--no-backup")
    old.validate_session(tokens[0])
    assert "--accept-quarantined 1" in await move("cutover", "--no-backup", code=4)
    accepting = ("cutover", "--no-backup", "--accept-quarantined", "1")
    assert "old application wrote" in await move(*accepting, "--quiet", "3600", code=4)
    assert "old application wrote" in await move("seal", "--quiet", "3600", code=4)
    await move("seal", "--quiet", "0")
    with pytest.raises(sqlite3.IntegrityError, match="moved"):
        old.validate_session(tokens[0])
    await move(*accepting)
    status = await move("status", "--json")
    assert (status["authority"], status["quarantined_live"]) == ("postgresql", 1)
    await move("rollback", "--no-backup")
    assert old.validate_session(tokens[1])
    await move(*accepting, "--quiet", "0")
    await move("complete", "--yes")
    assert "moved already" in await move("start", code=4)
