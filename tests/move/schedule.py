"""One seeded schedule: callers of several processes, a cut-over, a roll-back, a cut-over, and movers that fall over.

The movers run in threads with a loop of their own, so that one may stop within a transaction while everything else
goes on. What is drawn from the seed is who does what; how it interleaves is the machine's.
"""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import asyncpg

from holdfast import SessionManager, StoreUnavailable
from holdfast.move.following import FollowingStore
from holdfast.move.mover import Mover
from holdfast.move.state import LeaseHeld, MoveRefused
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from tests.move.bench import Place
from tests.move.calling import Caller
from tests.move.ledger import Ledger
from tests.move.writing import following

LEASE: Final = timedelta(seconds=0.2)
LIMIT_SECONDS: Final = 200.0
# Time to spare, so that one schedule's calls do not take another's: many short schedules find more than few full ones.
PAUSES: Final = (0.0, 0.01, 0.05)


class Killed(BaseException):
    """Stands for the end of a mover's process. Nobody catches it on the way."""


class QuickMover(Mover):
    """A mover that does not look whether the tables are of this version: that takes it longer than all the rest."""

    async def _require(self, name: str, address: SqliteAddress | PostgresqlAddress) -> None:
        pass


@dataclass
class Outcome:
    """What a schedule did."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    """Kills, pauses, take-overs and refusals of movers."""

    def add(self, other: "Outcome") -> None:
        """Count another one's in."""
        self.acknowledged += other.acknowledged
        self.refused += other.refused
        self.moved += other.moved


class Schedule:
    """One run over a file and a database without a session."""

    def __init__(self, place: Place, seed: int) -> None:
        self._place = place
        self._chance = random.Random(f"schedule {seed}")
        self._ledger = Ledger()
        self._moved: Counter[str] = Counter()
        self._faults = self._chance.choice((0.0, 0.03, 0.1))
        self._left = 8
        self._tasks: list[asyncio.Task[None]] = []
        self._rivals = self._chance.choice((0, 0, 1))
        self._ends = self._chance.choice(("stay", "return", "abort", "complete"))

    async def run(self) -> Outcome:
        """Run it. Raises `AssertionError` for a promise that was broken."""
        stop, moved = asyncio.Event(), asyncio.Event()
        async with asyncio.timeout(LIMIT_SECONDS), AsyncExitStack() as stack:
            processes = self._chance.choice((1, 1, 2, 3))
            managers = await asyncio.gather(*(self._process(stack) for _ in range(processes)))
            alone = await self._alone(stack)
            stack.push_async_callback(self._give_up)
            await self._begin(managers)
            watch = self._task(self._watch())
            callers = [self._task(self._caller(managers).call(stop)) for _ in range(self._chance.choice((1, 2, 4)))]
            early = self._task(self._caller([alone]).call(moved))
            rivals = [self._task(self._rival(stop)) for _ in range(self._rivals)]
            await asyncio.sleep(self._chance.uniform(0.0, 0.05))
            await self._pursue("start")
            # A process that knows SQLite only has to be gone before the cut-over.
            moved.set()
            await early
            await alone.close()
            await self._before_cut_over()
            for goal in ("cut_over", "roll_back", "cut_over"):
                await asyncio.sleep(self._chance.uniform(0.0, 0.05))
                await self._pursue(goal)
            if self._ends in ("return", "abort"):
                await self._pursue("roll_back")
            if self._ends in ("abort", "complete"):
                await self._pursue(self._ends)
            stop.set()
            await asyncio.gather(*callers, *rivals)
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await self._end(managers)
        return Outcome(self._ledger.acknowledged, self._ledger.refused, self._moved)

    async def _begin(self, managers: Sequence[SessionManager]) -> None:
        """Before the callers call."""

    async def _before_cut_over(self) -> None:
        """Once all is copied."""

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def _give_up(self) -> None:
        """At the end, however it was reached."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _store(self) -> FollowingStore:
        return following(str(self._place.path), self._place.address)

    def _mover(self, **changes: Any) -> Mover:
        return self._place.mover(kind=QuickMover, lease=LEASE, **changes)

    async def _process(self, stack: AsyncExitStack) -> SessionManager:
        manager = SessionManager(self._store(), sweep_interval=None, retention=0)
        return await stack.enter_async_context(manager)

    async def _alone(self, stack: AsyncExitStack) -> SessionManager:
        return await stack.enter_async_context(SessionManager(self._place.path, sweep_interval=None))

    def _caller(self, managers: list[SessionManager]) -> Caller:
        return Caller(managers, self._ledger, random.Random(self._chance.random()), PAUSES)

    async def _pursue(self, goal: str) -> None:
        """Run movers, one after the other, until one comes to its end."""
        while True:
            try:
                await asyncio.to_thread(asyncio.run, self._move(goal, random.Random(self._chance.random())))
            except Killed:
                self._moved["killed"] += 1
            except LeaseHeld:
                self._moved["taken over"] += 1
                await asyncio.sleep(LEASE.total_seconds() / 4)
            except MoveRefused as error:
                # A pause may use the budget up; a difference is never expected.
                if "differ" in str(error):
                    raise
                self._moved[f"refused: {str(error).partition(';')[0]}"] += 1
            except StoreUnavailable:
                # A machine with far too much to do lets nobody have his turn.
                self._moved["not available"] += 1
            else:
                return

    async def _move(self, goal: str, chance: random.Random) -> None:
        mover: Mover

        def reached(_: str) -> None:
            if self._left == 0 or chance.random() > self._faults:
                return
            self._left -= 1
            if chance.random() < 0.5:
                self._moved["paused"] += 1
                time.sleep(chance.uniform(0, 2 * LEASE.total_seconds()))
                return
            if chance.random() < 0.5:
                # Killed in truth it would not give its lease back.
                mover._token = None
            raise Killed

        mover = self._mover(reached=reached, rows=chance.choice((25, 1000)))
        async with mover:
            await getattr(mover, goal)()

    async def _rival(self, stop: asyncio.Event) -> None:
        """Somebody else who takes the next steps whenever nobody does."""
        while not stop.is_set():
            with suppress(LeaseHeld, Killed, MoveRefused, StoreUnavailable):
                await asyncio.to_thread(asyncio.run, self._move("run", random.Random(self._chance.random())))
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))

    async def _watch(self) -> None:
        """I1: at no instant do both stores accept writes. SQLite is asked before and after: its epoch must not move."""
        connection = await asyncpg.connect(self._place.address)
        file = sqlite3.connect(self._place.path, timeout=5)

        def look() -> tuple[str, int]:
            said: tuple[str, int] = file.execute("SELECT authority, epoch FROM holdfast_control").fetchone()
            return said

        try:
            while True:
                before = look()
                if before[0] != "here":
                    await asyncio.sleep(0.01)
                    continue
                accepts = await connection.fetchval(
                    "SELECT authority = 'here' AND epoch > 1 AND EXISTS (SELECT FROM pg_trigger "
                    "WHERE tgname = 'holdfast_fence' AND tgenabled = 'D') FROM holdfast_control"
                )
                if accepts and before == look():
                    self._ledger.broken.append("both stores accept writes (I1)")
                await asyncio.sleep(0.03)
        finally:
            connection.terminate()
            file.close()

    async def _end(self, managers: Sequence[SessionManager]) -> None:
        """After quiet: every acknowledged write is where it is served, and both stores say the same."""
        async with self._mover(wait=10.0) as mover:
            await mover.run()
            if self._ends not in ("abort", "complete"):
                comparison = await mover.verify()
                assert comparison.clean, comparison
                await self._both_alike()
        await self._ledger.check(self._place, self._serving)

    @property
    def _serving(self) -> str:
        """Which store has to serve at the end."""
        return "sqlite" if self._ends in ("return", "abort") else "postgresql"

    async def _both_alike(self) -> None:
        ours, theirs = await self._place.both()
        assert ours == theirs
