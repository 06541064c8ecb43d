"""How late this process's event loop is: what blocks it delays every answer and every close."""

import asyncio
from collections.abc import Callable
from typing import Final

from holdfast.sessions.background import Background

_EVERY: Final = 0.5


class LoopLag:
    """A task that sleeps, and tells by how much it overslept."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        """`observe` is called twice a second, with seconds."""
        self._observe = observe
        self._looking = Background(self._run, "holdfast-lag")

    def start(self) -> None:
        """Begin."""
        self._looking.start()

    async def stop(self) -> None:
        """End. Safe to repeat."""
        await self._looking.stop()

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        while True:
            before = time()
            await asyncio.sleep(_EVERY)
            self._observe(max(0.0, time() - before - _EVERY))
