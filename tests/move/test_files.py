"""The SQLite side of a move: who else writes the file, what is done to it, and what its disk does."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from holdfast import HoldfastError, StoreRefused, StoreUnavailable
from holdfast.move.mover import Mover
from holdfast.move.rows import SESSIONS
from holdfast.move.state import MoveRefused, StoresDiffer
from tests.move.bench import Place

STATEMENTS = {
    "replace": ["INSERT OR REPLACE INTO sessions SELECT * FROM sessions", "UPDATE sessions SET request_count = 9"],
    "ignore": ["INSERT OR IGNORE INTO sessions SELECT * FROM sessions", "$another"],
    "upsert": ["INSERT INTO sessions SELECT * FROM sessions WHERE 1 ON CONFLICT (id) DO UPDATE SET request_count = 4"],
    "key change": ["UPDATE sessions SET id = $new WHERE id = $first"],
    "key change over another": ["UPDATE OR REPLACE sessions SET id = $second WHERE id = $first"],
    "several rows": ["UPDATE sessions SET request_count = 3", "DELETE FROM sessions WHERE id <> $first"],
    "all rows": ["DELETE FROM sessions"],
    "undone": ["BEGIN", "UPDATE sessions SET request_count = 77", "DELETE FROM sessions WHERE id = $first", "ROLLBACK"],
    "undone in part": [
        *("BEGIN", "SAVEPOINT a", "DELETE FROM sessions", "ROLLBACK TO a", "UPDATE sessions SET request_count = 5"),
        "COMMIT",
    ],
}  # fmt: skip
"""What a program that knows nothing of Holdfast may do to the rows."""


@contextmanager
def stranger(place: Place) -> Iterator[sqlite3.Connection]:
    """A connection of such a program, with the driver's default settings but for its transactions."""
    with closing(sqlite3.connect(place.path, isolation_level=None, timeout=5)) as connection:
        yield connection


async def same(place: Place, mover: Mover) -> None:
    """Both stores say the same once the log is applied."""
    await mover.run()
    ours, theirs = await place.both()
    assert ours == theirs


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS.keys())
async def test_every_statement_is_captured(place: Place, statements: list[str]) -> None:
    """Move 16, 17: by a connection that was opened, and whose statements were prepared, before the triggers were."""
    async with place.manager() as manager:
        for _ in range(4):
            await manager.create_session("u1", {"a": 1})
    (first,), (second,), *_ = place.in_sqlite("SELECT id FROM sessions")
    with stranger(place) as connection:

        def do(text: str) -> None:
            text = text.replace("$another", "DELETE FROM sessions WHERE id = $second")
            for name, value in {"first": first, "second": second, "new": uuid4().hex}.items():
                text = text.replace(f"${name}", f"'{value}'")
            connection.execute(text)

        # Prepared, and undone.
        connection.execute("BEGIN")
        for each in statements:
            if each.split()[0] in ("INSERT", "UPDATE", "DELETE"):
                do(each)
        connection.execute("ROLLBACK")
        async with place.mover() as mover:
            await mover.start()
            for each in statements:
                do(each)
            await same(place, mover)
            assert (await mover.verify()).clean


@pytest.mark.parametrize("entries", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_a_hot_row_fills_the_log_and_not_the_move(place: Place, entries: int) -> None:
    """Move 20: many entries of one key are applied as one row, forgotten after a comparison, and numbers go on."""
    async with place.manager() as manager:
        new = await manager.create_session("u1")
    async with place.mover(rows=entries // 20) as mover:
        await mover.start()
        with stranger(place) as connection:
            connection.execute("BEGIN")
            connection.executemany("UPDATE sessions SET request_count = ?", ((n,) for n in range(entries)))
            connection.execute("COMMIT")
        await same(place, mover)
        assert (await mover.verify()).clean
        assert place.in_sqlite("SELECT count(*) FROM holdfast_move_log") == [(0,)]
        async with place.manager() as manager:
            await manager.validate_session(new.token)
        [(seq,)] = place.in_sqlite("SELECT min(seq) FROM holdfast_move_log")
        assert seq > entries
        await same(place, mover)


async def test_what_is_replaced_for_its_digest_stops_the_move(place: Place) -> None:
    """Move 16: SQLite tells no trigger of a row that goes because another takes its digest; the mover says so."""
    async with place.manager() as manager:
        for _ in range(2):
            await manager.create_session("u1")
    (first,), (second,) = place.in_sqlite("SELECT id FROM sessions")
    async with place.mover() as mover:
        await mover.start()
        with stranger(place) as connection:
            connection.execute(
                "UPDATE OR REPLACE sessions SET digest = (SELECT digest FROM sessions WHERE id = ?) WHERE id = ?",
                (second, first),
            )
        with pytest.raises(MoveRefused, match="abort the move and start it again"):
            await mover.cut_over()
        assert place.in_sqlite("SELECT sessions.id, authority FROM sessions, holdfast_control") == [(first, "here")]
        await mover.abort()
        await mover.start()
        await mover.cut_over()
        assert (await mover.verify()).clean


async def test_a_comparison_ends_under_churn(place: Place) -> None:
    """Move 39: one row that changes all the time keeps no comparison from its end, and is no difference."""
    tokens = await place.fill(60)
    async with place.manager() as manager, place.mover() as mover:
        await mover.start()

        async def churn() -> None:
            while True:
                await manager.validate_session(tokens[0])

        churning = asyncio.create_task(churn())
        for _ in range(5):
            assert (await mover.verify()).clean
        churning.cancel()


async def test_a_mistake_in_turning_rows_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move 38: a value that is turned wrongly on the way there differs, because comparing takes the way back."""
    await place.fill(5)
    form = SESSIONS.forms["request_count"]
    wrong = type(form)(form.type, lambda value: form.there(value) + 1, form.back)
    async with place.mover() as mover:
        monkeypatch.setitem(SESSIONS.forms, "request_count", wrong)
        await mover.start()
        assert len((await mover.verify()).differing["sessions"]) == 5
        with pytest.raises(StoresDiffer):
            await mover.cut_over()


async def test_there_and_back_changes_no_byte(place: Place) -> None:
    """Move 35: what nobody wrote meanwhile is as it was, in value and in type."""
    await place.fill(40)
    columns = ", ".join(f"{name}, typeof({name})" for name in SESSIONS.forms)
    before = place.in_sqlite(f"SELECT {columns} FROM sessions ORDER BY id")
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
        await mover.roll_back()
        assert place.in_sqlite(f"SELECT {columns} FROM sessions ORDER BY id") == before
        await mover.abort()
    assert place.in_sqlite(f"SELECT {columns} FROM sessions ORDER BY id") == before


async def test_what_has_expired_stays_expired(place: Place) -> None:
    """Move 26: an expired row is copied as it is: no loss, no difference, and nobody is logged in by it again."""
    tokens = await place.fill(4)
    place.in_sqlite("UPDATE sessions SET expires_at = created_at, last_activity = created_at WHERE user_id = 'u1'")
    async with place.mover() as mover, place.manager("postgresql") as post:
        await mover.start()
        await mover.cut_over()
        assert (await mover.verify()).clean
        assert await post.validate_session(tokens[1]) is None
        assert await post.validate_session(tokens[3]) is not None
        await mover.roll_back()
    async with place.manager() as lite:
        assert await lite.validate_session(tokens[1]) is None


async def test_a_large_document_is_moved(place: Place) -> None:
    """Move 36: the largest metadata that an import keeps go over and come back."""
    await place.fill(3)
    text = json.dumps({"a": ["x" * 1000] * 1000}, separators=(",", ":"))
    place.in_sqlite("UPDATE sessions SET metadata = ? WHERE user_id = 'u1'", text)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
        assert (await mover.verify()).clean
        await mover.roll_back()
    assert place.in_sqlite("SELECT metadata FROM sessions WHERE user_id = 'u1'") == [(text,)]


@pytest.mark.parametrize("sql", ["VACUUM", pytest.param("REINDEX", marks=pytest.mark.soak)])
async def test_the_file_is_tidied_during_the_copy(place: Place, sql: str) -> None:
    """Move 19: pages and row numbers change, keys do not."""
    await place.fill(60)
    done = False

    def tidy(step: str) -> None:
        nonlocal done
        if step == "copy done" and not done:
            done = True
            with stranger(place) as connection:
                connection.execute(sql)

    async with place.mover(reached=tidy) as mover:
        await mover.start()
        assert done
        assert (await mover.verify()).clean
        await same(place, mover)


def copied(place: Place, name: str) -> None:
    """Make a copy of the file as a backup does."""
    with stranger(place) as connection, closing(sqlite3.connect(place.path.with_name(name))) as other:
        connection.backup(other)


def restored(place: Place, name: str) -> None:
    """Put a copy in the file's place, nobody having it open."""
    for each in place.path.parent.glob(f"{place.path.name}-*"):
        each.unlink()
    place.path.with_name(name).replace(place.path)


async def test_a_file_that_was_restored_during_a_move_is_copied_again(place: Place) -> None:
    """Move 19: an older copy of the same file, triggers and all, has a shorter log than PostgreSQL has applied."""
    tokens = await place.fill(10)
    async with place.mover() as mover, place.manager() as lite:
        await mover.start()
        copied(place, "older.db")
        for _ in range(3):
            await lite.create_session("later")
        await lite.delete_session(tokens[1])
        await mover.run()
    restored(place, "older.db")
    async with place.mover() as mover, place.manager() as lite:
        assert await lite.validate_session(tokens[1]) is not None
        await mover.run()
        await same(place, mover)
        await mover.cut_over()
        assert not await place.in_postgresql("SELECT 1 FROM sessions WHERE user_id = 'later'")


async def test_a_file_from_before_the_move_is_refused(place: Place) -> None:
    """Move 19, 43: a copy without what the move put in is not taken for the file that is moved."""
    await place.fill(3)
    copied(place, "older.db")
    async with place.mover() as mover:
        await mover.start()
    restored(place, "older.db")
    async with place.mover() as mover:
        with pytest.raises(MoveRefused, match="restored from a backup"):
            await mover.run()


async def test_a_copy_from_before_the_cut_over_does_not_serve(place: Place) -> None:
    """Move 19: after the cut-over a restored file that claims the authority is refused by every step."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        copied(place, "older.db")
        await mover.cut_over()
    restored(place, "older.db")
    async with place.mover() as mover:
        for goal in (mover.run, mover.roll_back, mover.complete, mover.abort):
            with pytest.raises(MoveRefused, match="do not belong together"):
                await goal()
    async with place.manager("postgresql") as post:
        await post.create_session("u1")


@pytest.mark.parametrize("at", ["copy done", "flip done", "fence done"])
async def test_a_file_that_is_deleted_is_missed_at_once(place: Place, at: str) -> None:
    """Move 19: SQLite would go on with a file that nobody finds; a mover does not, and PostgreSQL keeps what it has."""
    await place.fill(30)

    def delete(step: str) -> None:
        if step == at and place.path.exists():
            copied(place, "kept.db")
            place.path.unlink()

    async with place.mover(reached=delete) as mover:

        async def there_and_back() -> None:
            for goal in (mover.start, mover.cut_over, mover.roll_back):
                await goal()

        with pytest.raises(StoreRefused, match="replaced or deleted"):
            await there_and_back()
    with pytest.raises(HoldfastError):
        async with place.mover():
            pass
    # Of the three moments the last one is the worst: neither store takes writes until the file is back.
    restored(place, "kept.db")
    async with place.mover() as mover:
        await mover.run()
        await same(place, mover)


async def test_a_writer_that_does_not_end_holds_the_cut_over_up_and_nothing_else(place: Place) -> None:
    """Move 9: another program's open transaction: nothing flips, it is refused in time, and what it wrote is moved."""
    await place.fill(5)
    async with place.mover(patience=0.2) as mover:
        await mover.start()

        def hold(step: str) -> None:
            if step == "cut done" and not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE sessions SET request_count = 55 WHERE user_id = 'u1'")

        with stranger(place) as connection:
            async with place.mover(patience=0.2, reached=hold) as other:
                await mover.let_go()
                with pytest.raises((MoveRefused, StoreUnavailable)):
                    await other.cut_over(timedelta(seconds=1))
            connection.execute("COMMIT")
        assert place.in_sqlite("SELECT authority FROM holdfast_control") == [("here",)]
        await mover.run()
        await mover.cut_over()
        assert await place.in_postgresql("SELECT 1 FROM sessions WHERE request_count = 55")


async def test_a_reader_holds_nothing_up(place: Place) -> None:
    """Move 10: a program that reads the file all along, in WAL mode, delays nothing."""
    await place.fill(5)
    with stranger(place) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM sessions").fetchone()
        async with place.mover(patience=0.2) as mover:
            await mover.start()
            await mover.cut_over()
            await mover.roll_back()
            await mover.abort()


def fill_disk(mover: Mover, pages: int) -> None:
    """Let the file take no more than so many pages beyond what it has, as far as this mover is concerned."""
    driver: Any = mover._sqlite._driver
    [(present,)] = driver.execute("PRAGMA page_count").fetchall()
    driver.execute(f"PRAGMA max_page_count = {present + pages}").fetchall()


async def test_a_full_disk_under_the_file(place: Place) -> None:
    """Move 8: no space for the triggers, or for what comes back: refused with advice; who serves serves on."""
    await place.fill(30)
    async with place.mover() as mover, place.manager() as lite, place.manager("postgresql") as post:
        fill_disk(mover, 0)
        with pytest.raises(StoreUnavailable, match="free some space"):
            await mover.start()
        await lite.create_session("u1")
        fill_disk(mover, 100_000)
        await mover.start()
        await mover.cut_over()
        for _ in range(200):
            await post.create_session("u1", {"a": "b" * 500})
        fill_disk(mover, 0)
        with pytest.raises(StoreUnavailable, match="free some space"):
            await mover.roll_back()
        new = await post.create_session("u1")
        fill_disk(mover, 100_000)
        await mover.roll_back()
        assert await lite.validate_session(new.token) is not None
