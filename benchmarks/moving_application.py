"""The application of B13: `python -m benchmarks.moving_application FILE ADDRESS SCHEMA SESSIONS WRITES`.

It writes at a steady rate, whether it was answered or not: nine in ten writes are validations of any session, one in
ten makes one. A write's time counts from the moment it was due.
"""

import asyncio
import random
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.child import obey
from benchmarks.rows import token_of
from holdfast import SessionManager, StoreOptions, StoreUnavailable
from holdfast.move.following import FollowingStore
from holdfast.sql.stores import store_at

DEADLINE = 10.0
TICK_SECONDS = 0.005


class Application:
    """Its writes, and how long they took."""

    def __init__(self, manager: SessionManager, sessions: int, writes: int) -> None:
        self._manager = manager
        self._sessions = sessions
        self._interval = 1 / writes
        self._chance = random.Random(13)
        self._running: asyncio.Task[None] | None = None
        self._began = 0.0
        self.writes: list[tuple[float, float]] = []
        """When each was due, by the machine's clock in seconds, and how many milliseconds it took."""
        self.failed = 0

    async def begin(self, seconds: float) -> None:
        """Write from now on; answers after some seconds."""
        self._began = time.monotonic()
        self._running = asyncio.create_task(self._run())
        await asyncio.sleep(seconds)

    async def end(self, seconds: float) -> dict[str, Any]:
        """Write for some seconds more; what came of all writes."""
        assert self._running is not None
        await asyncio.sleep(seconds)
        took = time.monotonic() - self._began
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        return {"writes": self.writes, "failed": self.failed, "a_second": len(self.writes) / took}

    async def _run(self) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while True:
                now = time.monotonic()
                while due <= now:
                    group.create_task(self._write(due))
                    due += self._interval
                await asyncio.sleep(TICK_SECONDS)

    async def _write(self, due: float) -> None:
        try:
            if self._chance.random() < 0.1:
                await self._manager.create_session("user-new")
            else:
                found = await self._manager.validate_session(token_of(self._chance.randrange(self._sessions)))
                assert found is not None, "a live session is not found"
        except StoreUnavailable:
            self.failed += 1
        else:
            self.writes.append((due, (time.monotonic() - due) * 1000))


async def main(file: str, address: str, schema: str, sessions: str, writes: str) -> None:
    """Follow the authority and write."""
    options = StoreOptions(schema=schema, follows=True, deadline=DEADLINE)
    halves = store_at(file, StoreOptions(follows=True, deadline=DEADLINE)), store_at(address, options)
    store = FollowingStore(*halves, preferred="sqlite", deadline=DEADLINE)
    async with SessionManager(store, sweep_interval=None) as manager:
        application = Application(manager, int(sessions), int(writes))
        await obey({"begin": application.begin, "end": application.end})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
