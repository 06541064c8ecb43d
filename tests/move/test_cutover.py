"""Cut-over, withdrawal, roll-back and the two ends, each by itself and where it is refused."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta

import asyncpg
import pytest

from holdfast import AuthorityMoved, StoreUnavailable
from holdfast.move.mover import Mover
from holdfast.move.state import LEGAL, LeaseHeld, MoveRefused, SqliteState
from tests.move.bench import Place
from tests.move.protocol import Safeguards
from tests.move.test_protocol import explored
from tests.support.polling import eventually

KEPT_OFF = "SELECT relname FROM pg_class WHERE 'autovacuum_enabled=off' = ANY(reloptions)"

WAITS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"


class Stopped(Exception):
    """Stands for the end of a process at a step."""


def stopping(place: Place, at: str) -> Mover:
    """A mover that fails at a step."""

    def reached(step: str) -> None:
        if step == at:
            raise Stopped(step)

    return place.mover(reached=reached)


async def test_sessions_are_found_on_the_other_side(place: Place) -> None:
    """Move: after cut-over PostgreSQL alone takes writes and knows every session; after roll-back SQLite does."""
    tokens = await place.fill(30)
    async with place.mover() as mover, place.manager() as lite, place.manager("postgresql") as post:
        await mover.start()
        await mover.cut_over()
        await mover.cut_over()
        with pytest.raises(AuthorityMoved):
            await lite.validate_session(tokens[0])
        assert await post.validate_session(tokens[0]) is not None
        ended = await post.delete_session(tokens[3])
        new = await post.create_session("u1", {"since": "then"})
        assert await post.create_ticket(new.token) is not None
        assert (await mover.verify()).clean
        await mover.roll_back()
        await mover.roll_back()
        with pytest.raises(AuthorityMoved):
            await post.validate_session(tokens[0])
        found = await lite.validate_session(new.token)
        assert found is not None
        assert found.metadata == {"since": "then"}
        assert ended
        assert await lite.validate_session(tokens[3]) is None
        await mover.cut_over()
        ours, theirs = await place.both()
        assert ours == theirs
        await mover.complete()
        assert await post.validate_session(new.token) is not None
        with pytest.raises(MoveRefused, match="moved already"):
            await mover.start()


async def test_a_sealed_file_refuses_strangers_too(place: Place) -> None:
    """I1: once SQLite has given its authority up, the file itself refuses a program that asks nobody."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()
        for statement in ("DELETE FROM sessions", "UPDATE sessions SET request_count = 5"):
            with pytest.raises(sqlite3.IntegrityError, match="does not accept writes"):
                place.in_sqlite(statement)


@pytest.mark.parametrize("back", [False, True])
async def test_no_client_waits_for_a_vacuum(place: Place, back: bool) -> None:
    """Move 2: whoever vacuums a table is waited for before a store is closed, and autovacuum comes back after."""
    tokens = await place.fill(10)
    async with place.mover() as mover, place.manager() as lite, place.manager("postgresql") as post:
        await mover.start()
        if back:
            await mover.cut_over()
        other = await asyncpg.connect(place.address)
        try:
            vacuuming = other.transaction()
            await vacuuming.start()
            await other.execute("LOCK TABLE sessions IN SHARE UPDATE EXCLUSIVE MODE")
            switching = asyncio.create_task(mover.roll_back() if back else mover.cut_over())
            await eventually(lambda: other.fetchval(WAITS), what="the move waits for the vacuum")
            assert await (post if back else lite).validate_session(tokens[0]) is not None
            assert not switching.done()
            await vacuuming.rollback()
            await switching
            assert await (lite if back else post).validate_session(tokens[0]) is not None
            assert not await other.fetch(KEPT_OFF)
        finally:
            await other.close()


async def test_autovacuum_comes_back_when_a_cut_over_is_called_off(place: Place) -> None:
    """Move 2: it is kept off the tables from the beginning of a cut-over to its end, whichever that is."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
    with suppress(Stopped):
        async with stopping(place, "cut done") as mover:
            await mover.cut_over()
    assert await place.in_postgresql(KEPT_OFF)
    await place.lapse()
    async with place.mover() as mover:
        await mover.withdraw()
    assert not await place.in_postgresql(KEPT_OFF)


async def test_a_cut_over_without_time_is_called_off(place: Place) -> None:
    """Move 2: past the budget SQLite serves on, nothing is lost, and the next attempt may succeed."""
    tokens = await place.fill(10)
    async with place.mover() as mover, place.manager() as lite:
        await mover.start()
        with pytest.raises(MoveRefused, match="SQLite serves on"):
            await mover.cut_over(timedelta(0))
        assert await lite.validate_session(tokens[0]) is not None
        await mover.cut_over()


async def test_a_roll_back_without_time_is_called_off(place: Place) -> None:
    """Move 2: past the budget PostgreSQL serves on, nothing is lost, and the next attempt may succeed."""
    tokens = await place.fill(10)
    async with place.mover() as mover, place.manager("postgresql") as post:
        await mover.start()
        await mover.cut_over()
        with pytest.raises(MoveRefused, match="PostgreSQL serves on"):
            await mover.roll_back(timedelta(0))
        new = await post.create_session("u1")
        await mover.roll_back()
    async with place.manager() as lite:
        assert await lite.validate_session(tokens[0]) is not None
        assert await lite.validate_session(new.token) is not None


async def test_a_roll_back_whose_mover_died_is_called_off_by_the_next(place: Place) -> None:
    """Move 2: past the budget whoever comes next lets PostgreSQL accept writes again, and does not go back."""
    await place.fill(5)
    async with stopping(place, "fence done") as mover:
        await mover.start()
        await mover.cut_over()
        with pytest.raises(Stopped):
            await mover._fence(await mover._leased(), timedelta(0))
    async with place.mover() as mover, place.manager("postgresql") as post:
        await mover.run()
        assert (await mover.look()).postgresql.phase == "switched"
        await post.create_session("u1")


@pytest.mark.parametrize("left", [0, 1], ids=["nothing left", "something left"])
async def test_a_file_that_is_held_costs_a_roll_back_its_budget(place: Place, left: int) -> None:
    """Move 9: a program that keeps the file locked stops a roll-back before the decision, and PostgreSQL serves on."""
    await place.fill(5)
    with closing(sqlite3.connect(place.path, isolation_level=None)) as stranger:

        def hold(step: str) -> None:
            if step == "fence done" and not stranger.in_transaction:
                stranger.execute("BEGIN IMMEDIATE")

        async with place.manager("postgresql") as post:
            async with place.mover(reached=hold) as mover:
                await mover.start()
                await mover.cut_over()
                token = await mover._leased()
                for _ in range(left):
                    await post.create_session("u1")
                # Whether its own time or its patience with the file is over first.
                with suppress(StoreUnavailable):
                    await mover._give_back(token, timedelta(seconds=0.6))
                assert (await mover.look()).postgresql.phase == "switched"
            new = await post.create_session("u1")
            stranger.execute("ROLLBACK")
            async with place.mover() as mover:
                await mover.roll_back()
    async with place.manager() as lite:
        assert await lite.validate_session(new.token) is not None


@pytest.mark.parametrize("at", ["flip done", "settle done", "decide"])
async def test_before_the_decision_it_can_be_withdrawn(place: Place, at: str) -> None:
    """Move: a mover that stops before the decision leaves a file that accepts writes again on demand."""
    tokens = await place.fill(10)
    async with stopping(place, at) as mover:
        await mover.start()
        with pytest.raises(Stopped):
            await mover.cut_over()
    async with place.mover() as mover, place.manager() as lite:
        await mover.withdraw()
        assert await lite.validate_session(tokens[0]) is not None
        await mover.cut_over()
        with pytest.raises(MoveRefused, match="roll back instead"):
            await mover.withdraw()


async def test_a_late_mover_decides_nothing(place: Place) -> None:
    """Move 3: a mover that was taken over from finds both stores closed to it, and changes neither."""
    tokens = await place.fill(10)
    async with place.mover() as late, place.mover() as other, place.manager() as lite:
        await late.start()
        token = await late._leased()
        await place.lapse()
        await other.run()
        await other._leased()
        await other.cut_over()
        await other.roll_back()
        for step in (late._sqlite.flip, late._sqlite.withdraw):
            with pytest.raises(LeaseHeld):
                step(token)
        with pytest.raises(LeaseHeld):
            await late._steps.reverse(token, {})
        with pytest.raises(LeaseHeld):
            await late._fence(token, timedelta(seconds=1))
        assert await lite.validate_session(tokens[0]) is not None


async def test_a_difference_at_the_last_moment_stops_the_cut_over(place: Place) -> None:
    """Move 37: a row that differs is found although all were compared before; SQLite serves on."""
    tokens = await place.fill(10)
    async with place.manager() as lite:
        async with stopping(place, "settle done") as mover:
            await mover.start()
            await mover.verify()
            await lite.validate_session(tokens[0])
            with pytest.raises(Stopped):
                await mover.cut_over(timedelta(seconds=30))
            move = (await mover.look()).postgresql.move
        connection = await asyncpg.connect(place.address)
        await connection.execute(f"SET holdfast.mover = '{move}'")
        await connection.execute("DELETE FROM sessions WHERE id = (SELECT id FROM sessions LIMIT 1)")
        await connection.close()
        # Whoever failed withdrew at once; let it be as if it had been killed.
        async with place.mover() as mover:
            with pytest.raises(MoveRefused, match="differ"):
                await mover.cut_over()
        assert await lite.validate_session(tokens[0]) is not None


async def test_an_aborted_move_leaves_nothing(place: Place) -> None:
    """Move: abort takes everything out, SQLite serves on, PostgreSQL is empty and closed; a new start works."""
    tokens = await place.fill(10)
    async with place.mover() as mover, place.manager() as lite, place.manager("postgresql") as post:
        await mover.start()
        await mover.abort()
        assert await lite.validate_session(tokens[0]) is not None
        assert not place.in_sqlite("SELECT 1 FROM sqlite_master WHERE name LIKE 'holdfast_move%'")
        assert not await place.in_postgresql("SELECT 1 FROM sessions")
        with pytest.raises(StoreUnavailable):
            await post.create_session("u1")
        await mover.start()
        assert (await mover.verify()).clean
        await mover.cut_over()
        with pytest.raises(MoveRefused):
            await mover.abort()


async def test_a_file_that_knows_another_move_is_refused(place: Place) -> None:
    """Move 43: what an earlier move left is not taken for this one's."""
    await place.fill(3)
    async with place.mover() as mover:
        await mover.start()
        place.in_sqlite("UPDATE holdfast_move SET move = '00000000-0000-0000-0000-000000000000'")
        with pytest.raises(MoveRefused, match="knows nothing"):
            await mover.run()


async def test_a_look_while_another_mover_goes_on_is_not_strange(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move 5: the stores are looked at one after the other; what changes in between is no sign of a restored backup."""
    await place.fill(5)
    async with place.mover() as mover:
        await mover.start()
        await mover.cut_over()

    async def go_back() -> None:
        async with place.mover() as other:
            await other.roll_back()

    async with place.mover() as mover:
        real, waiting = mover._sqlite.look, [go_back]

        def late() -> SqliteState:
            if waiting:
                asyncio.run(waiting.pop()())
            return real()

        monkeypatch.setattr(mover._sqlite, "look", late)
        assert (await mover.look()).postgresql.phase == "following"


def test_every_pair_of_the_model_is_known() -> None:
    """The table of what the two stores can say together is the checked model's, and what begins and ends a move."""
    before, _ = explored(Safeguards())
    words = {"sqlite": "here", "pending": "pending", "postgresql": "there"}
    modelled = {(words[state.authority], state.phase) for state in before}
    beside = {(authority, phase) for authority, phase in LEGAL if (authority, phase) not in modelled}
    assert modelled <= LEGAL
    assert beside == {
        ("here", None),
        ("there", None),
        ("here", "preparing"),
        ("here", "copying"),
        ("here", "aborting"),
        ("pending", "aborting"),
        ("there", "completing"),
    }


async def test_a_mover_of_an_earlier_move_changes_nothing(place: Place) -> None:
    """I6: tokens of two moves are never the same, so one that slept through an abort and a new start is refused."""
    await place.fill(3)
    async with place.mover() as late, place.mover() as other:
        await late.start()
        token = await late._leased()
        await place.lapse()
        await other.abort()
        await other.start()
        look = await late.look()
        with pytest.raises(LeaseHeld):
            await late._steps.apply(look, token, {})
        with pytest.raises(LeaseHeld):
            late._sqlite.flip(token)
