"""PostgreSQL dies, freezes or cannot be reached while a move is under way, and answers are lost."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from holdfast import StoreOptions, StoreUnavailable
from holdfast.move.mover import Mover
from holdfast.move.state import LeaseHeld, MoveRefused
from holdfast.sql import schema
from tests.move.bench import LEASE, Place
from tests.move.crowd import crowd
from tests.move.ledger import Ledger
from tests.support.polling import eventually
from tests.support.pooler import TransactionPooler
from tests.support.postgres import PostgresCluster
from tests.support.proxy import FaultProxy
from tests.support.stopwatch import Stopwatch

BUDGET = timedelta(seconds=1.5)


@pytest.fixture
async def frail(tmp_path: Path, broken_postgres: Callable[..., PostgresCluster]) -> tuple[Place, PostgresCluster]:
    """A file, and a database on a server of this test's own."""
    server = await asyncio.to_thread(broken_postgres)
    await schema.upgrade(server.address())
    await schema.upgrade(tmp_path / "sessions.db")
    return Place(tmp_path / "sessions.db", server.address()), server


async def more(ledger: Ledger, count: int = 10) -> None:
    """Wait for so many more acknowledged writes."""
    before = ledger.acknowledged.total()
    await eventually(lambda: ledger.acknowledged.total() > before + count, what="writes are acknowledged")


async def there_and_back(mover: Mover, ledger: Ledger) -> None:
    """Move, go back and move again beside writers that go on; in the end both stores are alike."""
    await mover.start()
    await mover.cut_over()
    await more(ledger)
    await mover.roll_back()
    await more(ledger)
    await mover.cut_over()
    assert (await mover.verify()).clean


async def insist(place: Place, goal: str) -> None:
    """Run movers until one comes to the end of what was asked."""
    for _ in range(40):
        try:
            async with place.mover(patience=1.0, rows=1000) as mover:
                await getattr(mover, goal)()
        except (LeaseHeld, MoveRefused, StoreUnavailable):
            await place.lapse()
        else:
            return
    raise AssertionError(f"{goal} does not come to its end")


@pytest.mark.soak
async def test_postgresql_is_killed_at_every_step(frail: tuple[Place, PostgresCluster]) -> None:
    """Move 6: before the decision SQLite serves on; after it PostgreSQL does, once it is back; nothing is lost."""
    place, server = frail
    await place.fill(30)

    def killing(at: str) -> Callable[[str], None]:
        return lambda step: server.kill() if step == at and server.running else None

    async with crowd(place, deadline=60) as ledger:
        for goal, steps in {
            "start": ("prepare", "install", "copy"),
            "cut_over": ("apply", "cut", "flip done", "settle", "decide done", "open"),
            "roll_back": ("consume", "fence", "reverse", "give back", "enter done"),
        }.items():
            for step in steps:
                try:
                    async with place.mover(patience=0.5, rows=1000, reached=killing(step)) as mover:
                        await getattr(mover, goal)()
                except (MoveRefused, StoreUnavailable):
                    pass
                if server.running:
                    # What this goal never comes to in this order.
                    continue
                if goal == "cut_over" and step != "decide done" and step != "open":
                    await more(ledger)
                await asyncio.to_thread(server.start)
                await place.lapse()
                await insist(place, "run")
                await more(ledger)
            await insist(place, goal)
        await insist(place, "cut_over")
    await ledger.check(place, "postgresql")


@pytest.mark.parametrize(
    "at", ["settle", *(pytest.param(each, marks=pytest.mark.soak) for each in ("cut", "settle done"))]
)
async def test_a_frozen_postgresql_costs_the_budget(frail: tuple[Place, PostgresCluster], at: str) -> None:
    """Move 6: PostgreSQL that is silent in a cut-over keeps writes waiting for the budget and not for longer."""
    place, server = frail
    await place.fill(1)
    watches: list[Stopwatch] = []

    def freeze(step: str) -> None:
        if step == at and not watches:
            watches.append(Stopwatch())
            server.freeze()

    async with crowd(place, processes=1, callers=1) as ledger:
        await more(ledger)
        async with place.mover(reached=freeze, patience=0.0) as mover:
            await mover.start()
            cutting = asyncio.create_task(mover.cut_over(BUDGET))
            await eventually(lambda: bool(watches), what="it is frozen")
            await more(ledger)
            waited = watches[0].seconds
            await asyncio.to_thread(server.thaw)
            # Frozen before anybody waits, it may come to its end after all.
            with suppress(MoveRefused, StoreUnavailable):
                await cutting
        assert waited < 4 * BUDGET.total_seconds()
        await insist(place, "cut_over")
        await more(ledger)
    await ledger.check(place, "postgresql")


async def test_a_mover_that_sleeps_in_a_transaction_is_withdrawn_from(place: Place) -> None:
    """Move 3: SQLite accepts writes again at once although the one who sleeps keeps PostgreSQL's row of the move."""
    await place.fill(3)
    asleep, wake = threading.Event(), threading.Event()

    def sleep(step: str) -> None:
        if step == "settle" and not asleep.is_set():
            asleep.set()
            wake.wait(20)

    async def cut() -> None:
        async with place.mover(reached=sleep) as sleeper:
            await sleeper.cut_over(timedelta(seconds=20))

    async with place.mover() as mover:
        await mover.start()
    async with place.mover(patience=0.0) as mover, place.manager() as lite:
        cutting = asyncio.create_task(asyncio.to_thread(asyncio.run, cut()))
        await asyncio.to_thread(asleep.wait)
        withdrawing = asyncio.create_task(mover.withdraw())
        watch = Stopwatch()
        await eventually(lambda: _accepts(place), what="SQLite accepts writes")
        # The other one sleeps for ten times as long.
        assert watch.seconds < 2.0
        await lite.create_session("u1")
        wake.set()
        # Awake it may try once more, or find that it was taken over from.
        with suppress(MoveRefused, StoreUnavailable):
            await cutting
        with suppress(MoveRefused, StoreUnavailable):
            await withdrawing
    await insist(place, "cut_over")


def _accepts(place: Place) -> bool:
    return place.in_sqlite("SELECT authority FROM holdfast_control") == [("here",)]


async def test_a_lost_answer_is_found_out(place: Place) -> None:
    """Move 7: each commit of a mover is made once and its answer lost, or not made: the move goes on as it was."""
    await place.fill(30)
    async with FaultProxy(place.address) as proxy, crowd(place, processes=1, callers=1) as ledger:
        seen: set[str] = set()

        def lose(step: str) -> None:
            if step in seen or step.endswith(" done"):
                return
            seen.add(step)
            if len(seen) % 2:
                proxy.drop_answer_to(b"COMMIT")
            else:
                proxy.drop_request(lambda sql: b"commit" in sql.lower())

        for goal in ("start", "cut_over", "roll_back", "abort"):
            for _ in range(20):
                try:
                    async with Place(place.path, proxy.address(place.address)).mover(reached=lose, rows=1000) as mover:
                        await getattr(mover, goal)()
                except (MoveRefused, StoreUnavailable):
                    # SQLite's steps have no answer to lose, and leave the trap to the next look.
                    await place.lapse()
                else:
                    break
            else:
                raise AssertionError(f"{goal} does not come to its end")
        assert {"cut", "settle", "open", "fence", "give back", "follow", "consume", "aborting", "end"} <= seen
    await ledger.check(place, "sqlite")


async def test_a_decision_goes_on_when_the_answer_to_its_first_step_is_lost(place: Place) -> None:
    """Move 7: a mover whose own step has closed the store does not take that for another one's, and opens it again."""
    await place.fill(3)
    async with FaultProxy(place.address) as proxy:
        lost = {"cut", "fence"}

        def lose(step: str) -> None:
            if step in lost:
                lost.remove(step)
                proxy.drop_answer_to(b"COMMIT")

        async with Place(place.path, proxy.address(place.address)).mover(reached=lose) as mover:
            await mover.start()
            await mover.cut_over(timedelta(seconds=10))
            await mover.roll_back(timedelta(seconds=10))
            assert not lost
            look = await mover.look()
            assert (look.sqlite.authority, look.postgresql.phase) == ("here", "following")


async def test_a_move_through_a_pooler(place: Place) -> None:
    """Move 44: a mover and processes behind a pooler in transaction mode move and follow as without one."""
    await place.fill(30)
    async with (
        TransactionPooler(place.address, size=6) as pooler,
        crowd(place, processes=1, callers=2) as ledger,
        Mover(str(place.path), pooler.address, StoreOptions(pooled=True), lease=LEASE) as mover,
    ):
        await there_and_back(mover, ledger)
    await ledger.check(place, "postgresql")


async def test_a_reader_in_postgresql_holds_nothing_up(place: Place) -> None:
    """Move 11: a dump that reads all along delays no cut-over and no reader; only taking the move out waits for it."""
    await place.fill(5)
    connection = await asyncpg.connect(place.address)
    try:
        async with place.mover(patience=0.5) as mover:
            await mover.start()
            reading = connection.transaction(isolation="repeatable_read")
            await reading.start()
            await connection.fetch("SELECT * FROM sessions")
            await mover.cut_over()
            await mover.roll_back()
            await mover.cut_over()
            with pytest.raises(StoreUnavailable, match="locked"):
                await mover.complete()
            async with place.manager("postgresql") as post:
                await post.create_session("u1")
            await reading.rollback()
            await mover.complete()
    finally:
        await connection.close()


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_transaction_that_began_before_the_fence_is_refused(place: Place, isolation: Any) -> None:
    """Move 12: PostgreSQL refuses the write of a client whose transaction, and snapshot, is older than the fence."""
    await place.fill(5)
    connection = await asyncpg.connect(place.address)
    try:
        async with place.mover() as mover:
            await mover.start()
            await mover.cut_over()
            transaction = connection.transaction(isolation=isolation)
            await transaction.start()
            await connection.fetch("SELECT * FROM holdfast_control")
            await mover.roll_back()
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.execute("UPDATE sessions SET request_count = 99")
            assert caught.value.sqlstate == "HF001"
            await transaction.rollback()
    finally:
        await connection.close()


async def test_a_late_commit_with_a_low_number_is_taken_back(place: Place) -> None:
    """Move 14: of two transactions in PostgreSQL the one that began first commits last; both reach SQLite."""
    await place.fill(5)
    first, second = await asyncpg.connect(place.address), await asyncpg.connect(place.address)
    try:
        async with place.mover() as mover:
            await mover.start()
            await mover.cut_over()
            early = first.transaction()
            await early.start()
            await first.execute("UPDATE sessions SET request_count = 71 WHERE user_id = 'u1'")
            await second.execute("UPDATE sessions SET request_count = 72 WHERE user_id = 'u2'")
            await mover.run()
            await early.commit()
            await mover.run()
            ours, theirs = await place.both()
            assert ours == theirs
            assert place.in_sqlite("SELECT count(*) FROM sessions WHERE request_count IN (71, 72)") == [(2,)]
    finally:
        await first.close()
        await second.close()
