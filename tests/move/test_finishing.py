"""A mover dies while writes wait: the processes that follow bring it to an end, and nobody has to notice."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from holdfast import SessionManager, StoreOptions, TwoStores
from holdfast.move.finishing import Finisher
from holdfast.move.following import FollowingStore
from holdfast.opening import open_store
from tests.move.bench import Place
from tests.stores.test_following import movable
from tests.support.proxy import FaultProxy

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 30.0
ENDS = {
    # Within its time it is decided, past it taken back.
    ("cut_over", "flip done"): None,
    ("cut_over", "decide done"): "postgresql",
    ("roll_back", "fence done"): None,
    ("roll_back", "give back done"): "sqlite",
}
"""Which store accepts writes in the end (`None`: either), by the command and the step that its mover died at."""


class Movers:
    """Processes that move the sessions of one place, and die at will."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def of(cls, place: Place) -> AsyncIterator["Movers"]:
        """Those of a place."""
        line = [sys.executable, "-m", "tests.move.dying", str(place.path), place.address]
        process = await asyncio.create_subprocess_exec(*line, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE)
        try:
            yield cls(process)
        finally:
            await process.communicate(b"")

    async def run(self, goal: str, at: str = "nowhere") -> None:
        """Pursue a goal and die at a step of it, or come to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{goal},{at}\n".encode())
        await self._process.stdin.drain()
        ended = int(await self._process.stdout.readline())
        assert ended == (0 if at == "nowhere" else -signal.SIGKILL)


def following(place: Place, address: str | None = None, withdraw_after: float = 3.0) -> FollowingStore:
    """A store over both, quick to take a decision back."""
    address = address or place.address
    finisher = Finisher(place.path, address, StoreOptions(), withdraw_after=withdraw_after, stay_after=withdraw_after)
    # A store that is away is waited for as long as one of its calls may take, when it is closed.
    halves = movable(place.path, 5.0), movable(address, 5.0)
    return FollowingStore(*halves, preferred="sqlite", deadline=DEADLINE, finish=finisher.finish)


async def test_a_killed_mover_keeps_no_write_waiting(place: Place) -> None:
    """Case 2: wherever it dies, a write that waits is made; what was decided is finished, the rest is taken back."""
    tokens = await place.fill(20)
    token, counted = tokens[0], 0
    store = open_store(
        TwoStores(place.path, place.address, preferred="sqlite"), StoreOptions(deadline=DEADLINE, connections=3)
    )
    assert isinstance(store, FollowingStore)
    async with Movers.of(place) as movers, SessionManager(store, sweep_interval=None) as manager:
        before = await manager.get_session(token)
        assert before is not None
        await movers.run("start")
        for (goal, step), serves in ENDS.items():
            if store.serving == ("sqlite" if goal == "roll_back" else "postgresql"):
                await movers.run("cut_over" if goal == "roll_back" else "roll_back")
            await movers.run(goal, step)
            made = await manager.create_session("u1")
            found = await manager.validate_session(token)
            counted += 1
            assert found is not None, (goal, step)
            assert found.request_count == before.request_count + counted, (goal, step)
            assert await manager.validate_session(made.token) is not None
            assert serves in (store.serving, None), (goal, step)
        # The move itself goes on from there.
        await movers.run("cut_over")
        await movers.run("complete")
        assert (await manager.validate_session(token)) is not None
    assert await place.in_postgresql("SELECT authority FROM holdfast_control") == [("here",)]
    assert place.in_sqlite("SELECT authority FROM holdfast_control") == [("there",)]


async def test_writes_do_not_wait_for_a_postgresql_that_is_away(place: Place) -> None:
    """Case 6: a cut-over whose mover died, and then PostgreSQL: SQLite has not decided, and accepts writes again."""
    [token] = await place.fill(1)
    async with FaultProxy(place.address) as proxy, Movers.of(place) as movers:
        store = following(place, proxy.address(place.address), withdraw_after=1.5)
        async with SessionManager(store, sweep_interval=None) as manager:
            await movers.run("start")
            await movers.run("cut_over", "flip done")
            proxy.refuse()
            proxy.cut()
            assert await manager.validate_session(token) is not None
            assert store.serving == "sqlite"
        await movers.run("cut_over")


async def test_writes_do_not_wait_for_a_file_that_is_lost(place: Place) -> None:
    """A roll-back whose mover died, and then the file: PostgreSQL has not given its authority up, and serves on."""
    tokens = await place.fill(3)
    async with Movers.of(place) as movers:
        await movers.run("start")
        await movers.run("cut_over")
        store = following(place, withdraw_after=2.0)
        async with SessionManager(store, sweep_interval=None) as manager:
            new = await manager.create_session("u1")
            await movers.run("roll_back", "fence done")
            for path in place.path.parent.glob(f"{place.path.name}*"):
                path.unlink()
            assert await manager.validate_session(new.token) is not None
            assert await manager.validate_session(tokens[0]) is not None
            assert store.serving == "postgresql"
            assert not place.path.exists()
    [row] = await place.in_postgresql("SELECT phase FROM holdfast_move")
    assert row["phase"] == "switched"


async def test_a_mover_that_lives_is_left_alone(place: Place) -> None:
    """Nobody takes a decision from a mover that is at it, however long it may take."""
    await place.fill(3)
    finisher = Finisher(place.path, place.address, StoreOptions(), withdraw_after=0.0, stay_after=0.0)
    async with place.mover(lease=timedelta(seconds=60)) as mover:
        await mover.start()
        await mover.cut_over()
        token = await mover._leased()
        async with mover._postgresql.step("fence", token, "switched") as step:
            await step.fence(timedelta(hours=1))
        await finisher.finish(60.0)
        assert (await mover.look()).postgresql.phase == "returning"
        await mover.run()
        assert (await mover.look()).sqlite.authority == "here"
