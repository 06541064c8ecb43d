"""Where the servers of one test find their store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from holdfast.memory import MemoryStore
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions

Kind = Literal["memory", "sqlite", "postgresql"]

# A race is about order, not about speed: on a loaded machine nothing may run into the deadline of a call, nor wait two
# seconds for a connection: fifty callers of one row, on two servers, get a connection each.
OPTIONS = StoreOptions(deadline=30.0, connections=28)


@dataclass(frozen=True)
class Place:
    """One store: its kind, and the address that every server of it is given."""

    kind: Kind
    address: str
    log: Path | None = None
    """What the database server writes down; `log_begins` is where this test begins in it."""
    log_begins: int = 0

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

    def lost_locks(self) -> list[str]:
        """What the database says of deadlocks, also where Holdfast tried again."""
        if self.log is None:
            return []
        lines = self.log.read_text(errors="replace")[self.log_begins :].splitlines()
        # Not lock timeouts: on a disk that stalls for half a second a commit keeps its locks for that long, and whoever
        # waited for them is sent again.
        return [line for line in lines if "deadlock detected" in line]


async def at_most(number: int, calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Make all calls, so many of them at once; the first failure ends it."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(work())
