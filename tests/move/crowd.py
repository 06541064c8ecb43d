"""An application at work while its store is moved: processes that follow, and their callers."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from holdfast import SessionManager
from tests.move.bench import Place
from tests.move.calling import Caller
from tests.move.ledger import Ledger
from tests.move.writing import DEADLINE, following


@asynccontextmanager
async def crowd(
    place: Place, address: str | None = None, *, processes: int = 2, callers: int = 4, deadline: float = DEADLINE
) -> AsyncIterator[Ledger]:
    """Callers at work; the address is that of PostgreSQL as they know it. What they were told is in the ledger."""
    [(strangers,)] = place.in_sqlite("SELECT count(*) FROM sessions")
    ledger, stop = Ledger(strangers=strangers), asyncio.Event()
    async with AsyncExitStack() as stack:
        managers = [
            SessionManager(following(str(place.path), address or place.address, deadline), sweep_interval=None)
            for _ in range(processes)
        ]
        await asyncio.gather(*map(stack.enter_async_context, managers))
        calls = [
            asyncio.create_task(Caller(managers, ledger, random.Random(number)).call(stop)) for number in range(callers)
        ]
        try:
            yield ledger
        finally:
            stop.set()
            await asyncio.gather(*calls)
