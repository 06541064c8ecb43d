"""Time that stands still for whoever sleeps, until a test moves it."""

import asyncio
import heapq
from datetime import timedelta
from itertools import count

from holdfast.sessions.clock import Clock


class MovableClock(Clock):
    """A clock for tests: `advance` moves the store's clock and wakes exactly the sleepers that are due.

    Stores add `offset` to their own clock, which goes on ticking: between two moves a little time passes
    in the store, and none for sleepers. Safe to make before an event loop runs; moved in its thread.
    """

    def __init__(self) -> None:
        """Make it with no offset and nobody asleep."""
        self.offset = timedelta(0)
        self._order = count()
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def advance(self, by: timedelta | float) -> None:
        """Move time forward by a `timedelta` or by seconds, and wake whoever is due.

        The woken tasks run at the next turn of the loop. Raises `ValueError` when asked to go back.
        """
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError("time does not go back")
        self.offset += step
        while self._sleepers and self._sleepers[0][0] <= self.offset:
            _wake(heapq.heappop(self._sleepers)[2])

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has moved time by so many seconds. Zero and less only give others a turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.offset + timedelta(seconds=seconds), next(self._order), future))
        self._tell_watchers()
        await future

    @property
    def sleeping(self) -> int:
        """How many tasks wait for time to move."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    async def until_sleeping(self, tasks: int = 1) -> None:
        """Wait until at least so many tasks are asleep: moving time before that would pass them by."""
        if self.sleeping >= tasks:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append((tasks, future))
        await future

    def _tell_watchers(self) -> None:
        asleep = self.sleeping
        for tasks, future in self._watchers:
            if tasks <= asleep:
                _wake(future)
        self._watchers = [watcher for watcher in self._watchers if not watcher[1].done()]


def _wake(future: asyncio.Future[None]) -> None:
    # A sleeper that was cancelled meanwhile is done already.
    if not future.done():
        future.set_result(None)
