"""The database is lost during a move, a rehearsal's that was dropped: SQLite serves, and the move has an end."""

import asyncio
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import StoreOptions, StoreRefused
from holdfast.move.lost_database import abort_alone, look_at_file, refuse_present
from holdfast.move.state import LeaseHeld, MoveRefused
from tests.cli.command import run
from tests.conftest import MigratedDatabases
from tests.legacy.old_application import legacy_file
from tests.move.bench import Place
from tests.move.legacy_place import ZONE, LegacyPlace, fill
from tests.support.fixtures import DatabaseFactory

AWAY = "postgresql://nobody@127.0.0.1:9/nothing"
OPTIONS = StoreOptions(deadline=2.0)


@pytest.fixture
def another(place: Place, migrated_database: MigratedDatabases) -> Place:
    """The same file, and a database that knows nothing of its move."""
    return Place(place.path, migrated_database(None))


def left_in(place: Place) -> list[str]:
    """What a move has put into the file."""
    found = place.in_sqlite("SELECT name FROM sqlite_master")
    return [name for (name,) in found if name == "holdfast_move" or name.startswith("holdfast_move_")]


async def left_behind(place: Place) -> list[str]:
    """Move as far as SQLite serves; the tokens of its sessions."""
    tokens = await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
    return tokens


async def test_a_move_ends_without_its_database(place: Place, another: Place) -> None:
    """Move 6: SQLite serves on with all sessions, notes nothing any more, and may be moved into another database."""
    tokens = await left_behind(place)
    async with another.mover() as mover:
        with pytest.raises(MoveRefused, match="--accept-loss-of-database"):
            await mover.start()
    for _ in range(2):
        await abort_alone(place.path, OPTIONS)
    assert not left_in(place)
    async with another.manager() as manager:
        assert await manager.validate_session(tokens[0]) is not None
    async with another.mover() as mover:
        await mover.start()
        await mover.cut_over()
    async with another.manager("postgresql") as manager:
        assert await manager.validate_session(tokens[0]) is not None


async def test_a_database_that_comes_back_is_emptied_by_an_abort(place: Place) -> None:
    """Move 6: it was only away; its copies are old, and the plain command ends the move there too."""
    await left_behind(place)
    await abort_alone(place.path, OPTIONS)
    async with place.mover() as mover:
        with pytest.raises(MoveRefused, match="restored from a backup"):
            await mover.start()
        await mover.abort()
        assert not await place.in_postgresql("SELECT 1 FROM sessions")
        await mover.start()
        await mover.cut_over()


async def test_a_cut_over_whose_database_is_lost_is_called_off(place: Place) -> None:
    """Move 6: the file had stopped accepting writes, and had decided nothing; it accepts them again."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        token = await mover._leased()
        await mover._begin_cut(token, timedelta(seconds=60))
        mover._sqlite.flip(token)
        assert (await look_at_file(place.path, OPTIONS)).authority == "pending"
        await abort_alone(place.path, OPTIONS)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            mover._sqlite.decide(token, 1)
    async with place.manager() as manager:
        assert await manager.create_session("u1")
    await place.lapse()
    async with place.mover() as mover:
        await mover.abort()
        await mover.start()
        await mover.cut_over()


async def test_a_file_that_was_left_serves_nothing_without_its_database(place: Place) -> None:
    """Move 6: what was written since the cut-over is not in the file, nor does it serve when it decides meanwhile."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        state = await look_at_file(place.path, OPTIONS)
        await mover.cut_over()
        with pytest.raises(LeaseHeld):
            mover._sqlite.remove(state.token, serving=True)
        for refused in (look_at_file, abort_alone):
            with pytest.raises(MoveRefused, match="taken over from this file"):
                await refused(place.path, OPTIONS)
        assert (await mover.verify()).clean
        await mover.roll_back()


async def test_a_database_that_is_there_is_not_lost(
    place: Place, another: Place, postgres_database: DatabaseFactory
) -> None:
    """Move 6: only one that is away, has no tables of ours, or is another one is taken for lost."""
    await left_behind(place)
    state = await look_at_file(place.path, OPTIONS)
    with pytest.raises(MoveRefused, match="plain command"):
        await refuse_present(state, place.address, OPTIONS)
    for address in (another.address, postgres_database(), AWAY, f"{place.address}_dropped"):
        await refuse_present(state, address, OPTIONS)


async def test_a_legacy_file_is_left_as_it_was(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Move 6: an application's own file loses what the move put in, and nothing else; its tokens stay."""
    place = LegacyPlace(legacy_file(tmp_path / "sessions.db"), migrated_database(None))
    fill(place.path)
    before = place.bytes_of_rows()
    async with place.mover() as mover:
        await mover.start()
    await abort_alone(place.path, StoreOptions(legacy_tz=ZONE))
    assert place.bytes_of_rows() == before
    assert not left_in(place)
    async with place.mover() as mover:
        await mover.abort()
        await mover.start()
        assert (await mover.verify()).clean


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Move 6: a mistyped name makes no file."""
    with pytest.raises(StoreRefused):
        await look_at_file(tmp_path / "none.db", OPTIONS)
    assert not (tmp_path / "none.db").exists()


async def test_an_operator_ends_a_move_without_its_database(place: Place, another: Place, tmp_path: Path) -> None:
    """Command: refused while the database is there and without a yes; then done, and nothing to do the second time."""
    await left_behind(place)

    def move(address: str, *arguments: str) -> tuple[int, str, str]:
        named = {"DATABASE_URL": address, "HOLDFAST_SQLITE_PATH": str(place.path)}
        ran = run("move", "abort", "--accept-loss-of-database", *arguments, folder=tmp_path, **named)
        return ran.returncode, ran.stdout, ran.stderr

    code, _, said = await asyncio.to_thread(move, place.address, "--yes")
    assert (code, "plain command" in said) == (4, True)
    code, _, said = await asyncio.to_thread(move, AWAY)
    assert (code, "--yes" in said) == (2, True)
    code, shown, _ = await asyncio.to_thread(move, another.address, "--dry-run")
    assert (code, "take the move's objects out" in shown) == (0, True)
    for did in (True, False):
        code, shown, said = await asyncio.to_thread(move, another.address, "--yes", "--json")
        assert code == 0, said
        assert json.loads(shown)["did_something"] is did
