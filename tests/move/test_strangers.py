"""What an old application, or a program beside it, does with its file in the middle of a move."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import StoreUnavailable
from holdfast.move.conditions import Wishes
from holdfast.move.state import MoveRefused
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import legacy_file, local_now, text
from tests.move.legacy_place import LegacyPlace

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")
AT_ONCE = Wishes(quiet=timedelta(0))


@pytest.fixture(params=["delete", "wal"])
def place(tmp_path: Path, migrated_database: MigratedDatabases, request: pytest.FixtureRequest) -> LegacyPlace:
    """A legacy file with three plain rows, in either journal mode, and a database."""
    made = LegacyPlace(legacy_file(tmp_path / "sessions.db", request.param), migrated_database(None))
    add(made, "a", "b", "c")
    return made


def add(place: LegacyPlace, *tokens: str) -> None:
    """Rows as the old application writes them."""
    later, now = text(local_now() + timedelta(hours=20)), text(local_now())
    for each in tokens:
        place.in_sqlite("INSERT INTO sessions VALUES (?, 'u1', '{}', ?, ?, ?, 0)", each, now, later, now)


@contextmanager
def beside(place: LegacyPlace) -> Iterator[sqlite3.Connection]:
    """A connection of another program."""
    with closing(sqlite3.connect(place.path, isolation_level=None, timeout=5)) as connection:
        yield connection


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN"], ids=["writer", "reader"])
async def test_who_holds_the_file_holds_up_no_more_than_the_cut_over(place: LegacyPlace, statement: str) -> None:
    """Move 9, 10: an open transaction, or in rollback mode a reader, lets no flip commit: it is refused in time."""
    with beside(place) as connection:

        def hold(step: str) -> None:
            if step == "cut done" and not connection.in_transaction:
                connection.execute(statement)
                connection.execute("SELECT * FROM sessions").fetchone()
                if statement != "BEGIN":
                    connection.execute("UPDATE sessions SET request_count = 55 WHERE session_id = 'a'")

        async with place.mover(wishes=AT_ONCE, patience=0.2) as mover:
            await mover.start()
        async with place.mover(wishes=AT_ONCE, patience=0.2, reached=hold) as mover:
            try:
                await mover.cut_over(timedelta(seconds=1))
            except (MoveRefused, StoreUnavailable):
                assert place.in_sqlite("SELECT authority FROM holdfast_control") == [("here",)]
        if connection.in_transaction:
            connection.execute("COMMIT")
    async with place.mover(wishes=AT_ONCE) as mover:
        await mover.run()
        await mover.cut_over()
        [row] = await place.in_postgresql("SELECT max(request_count) AS highest FROM sessions")
        assert row["highest"] == (0 if statement == "BEGIN" else 55)
        assert (await mover.verify()).clean


async def test_an_application_that_starts_again_changes_nothing(place: LegacyPlace) -> None:
    """Move 18: a table that is made only if it is not there leaves the triggers and the log as they are."""
    async with place.mover(wishes=AT_ONCE) as mover:
        await mover.start()
        capture = (await mover.look()).postgresql.capture
        place.in_sqlite("CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY)")
        add(place, "d")
        await mover.run()
        assert (await mover.look()).postgresql.capture == capture
        assert (await mover.verify()).rows >= 4


async def test_a_table_that_was_made_anew_is_copied_again(place: LegacyPlace) -> None:
    """Move 18: with its table an application drops the triggers, and whatever it wrote without them is found."""
    [(made,)] = place.in_sqlite("SELECT sql FROM sqlite_master WHERE name = 'sessions' AND type = 'table'")
    async with place.mover(wishes=AT_ONCE) as mover:
        await mover.start()
        place.in_sqlite("DROP TABLE sessions")
        place.in_sqlite(made)
        add(place, "a", "e")
        await mover.run()
        assert (await mover.verify()).clean
        await mover.cut_over()
        assert len(await place.in_postgresql("SELECT 1 FROM sessions WHERE ended_at IS NULL")) == 2
