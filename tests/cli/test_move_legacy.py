"""`holdfast move` on an application's own file, with the old application still writing to it."""

import json
import sqlite3
from pathlib import Path

import pytest

from holdfast import SessionManager, StoreOptions
from tests.cli.moving import Program
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.legacy_place import ZONE, fill

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")


@pytest.fixture
def move(tmp_path: Path, migrated_database: MigratedDatabases) -> Program:
    """The program on a legacy file and an empty database."""
    path = legacy_file(tmp_path / "sessions.db", "delete")
    return Program(tmp_path, path, migrated_database(None), HOLDFAST_LEGACY_TZ=ZONE)


async def test_a_legacy_file_is_moved_by_the_same_commands(move: Program) -> None:
    """CLI: every odd row is listed with its class, and what would log somebody out has to be acknowledged exactly."""
    tokens = fill(move.path)
    planned = await move.json("plan")
    classes = planned["classes"]
    assert planned["sqlite"]["form"] == "legacy"
    assert classes["exact"] + classes["repaired"] + classes["quarantined"] == classes["rows"]
    assert len(classes["odd"]) == classes["repaired"] + classes["quarantined"]
    listed = await move("plan")
    assert "quarantined" in listed
    assert not [token for token in tokens if len(token) > 8 and token in listed + json.dumps(planned)]
    live = classes["quarantined_live"]
    assert live > 0
    started = await move.json("start")
    assert started["status"]["quarantined_live"] == live
    await move("verify")
    await move("cutover", code=4)
    assert f"--accept-quarantined {live}" in move.said
    await move("cutover", "--accept-quarantined", str(live + 1), code=4)
    await move("cutover", "--accept-quarantined", str(live))
    async with SessionManager(move.address, sweep_interval=None, options=StoreOptions(follows=True)) as manager:
        for token, is_live in tokens.items():
            assert (await manager.get_session(token) is not None) == is_live
    await move("rollback")
    await move("cutover", "--accept-quarantined", str(live), "--no-backup")
    await move("complete", "--yes")
    content = b"".join(each.read_bytes() for each in move.folder.glob("sessions.db*"))
    assert not [token for token in tokens if token.startswith("session-case") and token.encode() in content]


async def test_the_old_application_is_sealed_out_once_it_is_quiet(move: Program) -> None:
    """CLI: seal waits for quiet, then refuses the old application and nobody else; twice is as good as once."""
    old = OldSessionManager(move.path)
    old.create_session("u1", {})
    await move("seal", code=4)
    await move("start", "--no-backup")
    old.create_session("u2", {})
    await move("seal", code=4)
    assert "wrote to the file" in move.said
    await move("cutover", "--no-backup", code=4)
    assert "wrote to the file" in move.said
    for _ in range(2):
        await move("seal", "--quiet", "0")
    with pytest.raises(sqlite3.Error, match="moved to another store"):
        old.create_session("u3", {})
    await move("cutover", "--no-backup")
    assert (await move.status())["authority"] == "postgresql"


async def test_what_is_said_of_bad_expiries_holds_for_the_whole_move(move: Program) -> None:
    """CLI: --on-bad-expiry is given once, at the start; later commands copy nothing anew."""
    old = OldSessionManager(move.path)
    token = old.create_session("u1", {})
    move.in_sqlite(f"UPDATE sessions SET expires_at = 'never' WHERE session_id = '{token}'")
    await move("start", "--no-backup", "--on-bad-expiry", "extend")
    again = await move.json("start", "--no-backup")
    assert "copy" not in again["steps_ms"]
    assert (await move.json("verify"))["rows"] >= 1
    await move("cutover", "--no-backup", "--quiet", "0")
    async with SessionManager(move.address, sweep_interval=None, options=StoreOptions(follows=True)) as manager:
        assert await manager.get_session(token) is not None
