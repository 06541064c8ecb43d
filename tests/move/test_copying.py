"""Start, copy, apply, verify: PostgreSQL gets what SQLite has, and a difference is found."""

from datetime import timedelta

import asyncpg
import pytest

from holdfast import AuthorityMoved
from holdfast.move import verifying
from holdfast.move.progress import Progress
from holdfast.move.rows import SHAPES, Key, Row, Shape
from holdfast.move.state import LeaseHeld, MoveRefused
from holdfast.sql.failures import Kind, NotDone
from holdfast.sql.tables import tables
from tests.move.bench import Place


async def test_a_copy_is_the_same_and_follows(place: Place) -> None:
    """Move: after start both stores hold the same rows; what is written after it is applied by the next run."""
    tokens = await place.fill(60)
    async with place.mover() as mover, place.manager() as manager:
        await mover.start()
        ours, theirs = await place.both()
        assert ours == theirs
        assert len(ours["sessions"]) == 60
        assert ours["holdfast_tickets"]
        assert ours["holdfast_imported"]
        await manager.validate_session(tokens[0])
        await manager.delete_session(tokens[1])
        await manager.update_metadata(tokens[3], {"a": "b"})
        await manager.create_ticket((await manager.create_session("u9")).token)
        assert await manager.erase_user("u4")
        await mover.run()
        ours, theirs = await place.both()
        assert ours == theirs
        assert (await mover.verify()).clean


async def test_postgresql_stays_closed_while_it_follows(place: Place) -> None:
    """I1: the store that is filled takes writes from the mover alone, and from nobody who only looks at it."""
    await place.fill(5)
    async with place.mover() as mover, place.manager("postgresql") as manager:
        await mover.start()
        with pytest.raises(AuthorityMoved):
            await manager.create_session("u1")
        for statement in ("DELETE FROM sessions", "TRUNCATE sessions CASCADE"):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await place.in_postgresql(statement)
            assert caught.value.sqlstate == "HF001"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sessions SET request_count = request_count + 1 WHERE id = $1",
        "UPDATE sessions SET metadata = '{}' WHERE id = $1",
        "DELETE FROM sessions WHERE id = $1",
        (
            "INSERT INTO sessions SELECT gen_random_uuid(), 'x', previous_digest, replaced_at, user_id, metadata, 0, "
            "created_at, expires_at, last_activity, 0, ended_at, end_reason FROM sessions WHERE id = $1"
        ),
    ],
    ids=["changed", "metadata", "missing", "added"],
)
async def test_a_difference_is_found(place: Place, damage: str) -> None:
    """Move 37: one row that differs in PostgreSQL is named, and the move does not count as verified."""
    await place.fill(50)
    async with place.mover() as mover:
        await mover.start()
        [(key,)] = place.in_sqlite("SELECT id FROM sessions ORDER BY id LIMIT 1 OFFSET 25")
        move = (await mover.look()).postgresql.move
        connection = await asyncpg.connect(place.address)
        try:
            await connection.execute(f"SET holdfast.mover = '{move}'")
            await connection.execute(damage, key)
        finally:
            await connection.close()
        comparison = await mover.verify()
        assert not comparison.clean
        assert len(comparison.differing["sessions"]) == 1
        assert (await mover.look()).postgresql.verified is None


async def test_no_row_is_left_out_because_many_were_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move 37: however many rows change while all are compared, the comparison goes on to the last one."""
    monkeypatch.setattr(verifying, "MOST_SUSPECTS", 5)
    await place.fill(60)

    def write(progress: Progress) -> None:
        # Not the last rows: what is written is applied, and what somebody spoilt there would be whole again.
        if progress.doing == "comparing" and not progress.rows:
            place.in_sqlite(
                "UPDATE sessions SET request_count = request_count + 1 "
                "WHERE id IN (SELECT id FROM sessions ORDER BY id LIMIT 50)"
            )

    async with place.mover(tell=write) as mover:
        await mover.start()
        assert (await mover.verify()).clean
        move = (await mover.look()).postgresql.move
        connection = await asyncpg.connect(place.address)
        try:
            await connection.execute(f"SET holdfast.mover = '{move}'")
            await connection.execute("DELETE FROM sessions WHERE id = (SELECT max(id::text)::uuid FROM sessions)")
        finally:
            await connection.close()
        comparison = await mover.verify()
        assert comparison.rows >= 60
        assert len(comparison.differing["sessions"]) == 1


@pytest.mark.parametrize("at", ["apply", "renew", "verify", "prune", "reverse", "consume"])
async def test_a_comparison_bears_what_passes(place: Place, at: str) -> None:
    """Move 37: a file that is busy, or a connection that is lost, while all rows are compared ends nothing."""
    await place.fill(30)
    failed: list[str] = []

    def fail(step: str) -> None:
        if comparing and step == at and not failed:
            failed.append(step)
            # As from a file whose turn is another process's, or a server that has a deadlock to end.
            raise NotDone(Kind.RETRY, BlockingIOError())

    comparing = False
    async with place.mover(reached=fail) as mover:
        await mover.start()
        if at in ("reverse", "consume"):
            await mover.cut_over()
        comparing = True
        assert (await mover.verify()).clean
        assert failed


async def test_a_comparison_reads_once_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move 37: rows that could not be read at the first attempt, in either store, are compared too."""
    await place.fill(30)
    async with place.mover() as mover:
        await mover.start()
        attempts = iter(range(1000))
        in_sqlite, in_postgresql = mover._sqlite.chunk, mover._postgresql.chunk

        def busy(shape: Shape, after: Key | None, limit: int) -> list[Row]:
            if next(attempts) % 3 == 0:
                raise NotDone(Kind.RETRY, BlockingIOError())
            return in_sqlite(shape, after, limit)

        async def lost(shape: Shape, after: Key | None, to: Key | None) -> list[Row]:
            if next(attempts) % 3 == 0:
                raise ConnectionResetError
            return await in_postgresql(shape, after, to)

        monkeypatch.setattr(mover._sqlite, "chunk", busy)
        monkeypatch.setattr(mover._postgresql, "chunk", lost)
        assert (await mover.verify()).clean


async def test_a_second_mover_is_told_to_wait(place: Place) -> None:
    """Move 5: of two movers one works; the other takes over once the first one's lease has run out."""
    tokens = await place.fill(3)
    # A lease that does not run out by itself, however long the machine may take.
    lease = timedelta(minutes=5)
    async with place.mover(lease=lease) as first, place.mover(lease=lease) as second, place.manager() as manager:
        await first.start()
        await manager.validate_session(tokens[0])
        with pytest.raises(LeaseHeld):
            await second.run()
        await place.lapse()
        await second.run()
        await manager.validate_session(tokens[0])
        with pytest.raises(LeaseHeld):
            await first.run()
        await second.run()
        ours, theirs = await place.both()
        assert ours == theirs


async def test_what_was_written_without_the_triggers_is_copied_again(place: Place) -> None:
    """Move 18: a trigger is lost, a row changed meanwhile: the log is not believed any more, all is compared anew."""
    await place.fill(50)
    async with place.mover() as mover:
        await mover.start()
        place.in_sqlite("DROP TRIGGER holdfast_move_capture_sessions_update")
        place.in_sqlite("UPDATE sessions SET request_count = 77 WHERE user_id = 'u3'")
        await mover.run()
        ours, theirs = await place.both()
        assert ours == theirs
        assert (await mover.verify()).clean


async def test_a_store_with_sessions_is_not_overwritten(place: Place) -> None:
    """Move: PostgreSQL with sessions of its own is refused, and goes on to serve."""
    async with place.manager("postgresql") as manager:
        await manager.create_session("u1")
        async with place.mover() as mover:
            with pytest.raises(MoveRefused, match="sessions of its own"):
                await mover.start()
        await manager.create_session("u1")


async def test_a_damaged_row_stops_the_copy_by_name(place: Place) -> None:
    """Move: a row that another program spoilt is not dropped silently; the message names it and no digest."""
    await place.fill(5)
    place.in_sqlite("UPDATE sessions SET expires_at = 'tomorrow' WHERE user_id = 'u3'")
    [(id,)] = place.in_sqlite("SELECT id FROM sessions WHERE user_id = 'u3'")
    async with place.mover() as mover:
        with pytest.raises(MoveRefused, match=id):
            await mover.start()
        place.in_sqlite("UPDATE sessions SET expires_at = created_at WHERE user_id = 'u3'")
        await mover.start()
        assert (await mover.verify()).clean


def test_every_table_and_column_is_moved() -> None:
    """Move: whoever adds a column or a table finds out here that it has to move with the rest."""
    own = {table.name: {column.name for column in table.columns} for table in tables(None).metadata.tables.values()}
    for kept in ("holdfast_control", "holdfast_processes"):
        # What a store says of itself, and who is open on it.
        own.pop(kept, None)
    assert {shape.table: set(shape.forms) for shape in SHAPES.values()} == own
