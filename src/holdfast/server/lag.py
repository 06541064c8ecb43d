"""How late this process's event loop is: what blocks it delays every answer and every close."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_EVERY: Final = 0.5


class LoopLag:
    """A task that sleeps, and tells by how much it overslept."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        """`observe` is called twice a second, with seconds."""
        self._observe = observe
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="holdfast-lag")

    async def stop(self) -> None:
        """End. Safe to repeat."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            before = time()
            await asyncio.sleep(_EVERY)
            self._observe(max(0.0, time() - before - _EVERY))
