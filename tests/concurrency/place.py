"""Where the servers of one test find their store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.memory import MemoryStore
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from tests.support.admin import execute

Kind = Literal["memory", "sqlite", "postgresql"]

# A race is about order, not about speed: on a loaded machine nothing may run into the deadline of a call.
OPTIONS = StoreOptions(deadline=30.0, connections=4)


@dataclass(frozen=True)
class Place:
    """One store: its kind, and the address that every server of it is given."""

    kind: Kind
    address: str

    def manager(self, **settings: Any) -> SessionManager:
        """A server's manager, not open. It sweeps only when told to."""
        if self.kind == "memory":
            return SessionManager(MemoryStore(), sweep_interval=None, **settings)
        return SessionManager(self.address, sweep_interval=None, options=OPTIONS, **settings)

    @asynccontextmanager
    async def servers(self, number: int = 2, **settings: Any) -> AsyncIterator[list[SessionManager]]:
        """So many servers of this store, open; the same one again and again where it cannot have several."""
        async with AsyncExitStack() as stack:
            if self.kind == "memory":
                yield [await stack.enter_async_context(self.manager(**settings))] * number
                return
            yield [await stack.enter_async_context(self.manager(**settings)) for _ in range(number)]

    def deadlocks(self) -> int:
        """How many deadlocks the database had to break, those that Holdfast hid by trying again included.

        Complete once the servers are closed: a connection reports when it ends.
        """
        if self.kind != "postgresql":
            return 0
        rows = execute(
            self.address,
            "SELECT pg_stat_force_next_flush()",
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
        )
        return int(rows[0][0])


async def at_most(number: int, calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Make all calls, so many of them at once; the first failure ends it."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(work())
