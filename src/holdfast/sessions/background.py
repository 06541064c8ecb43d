"""One task that runs beside the calls, from `start` to `stop`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("holdfast.sessions")


class Background:
    """A task that goes on until it is stopped."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Prepare it. `name` is the task's, for whoever looks at those of a process."""
        self._run = run
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running loop. Not while it runs already."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop it wherever it waits, and return once it has ended. Safe to repeat.

        That it had failed is told to the log, and to nobody else: whoever stops it has more to close.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, Exception):
            log.error("%s had failed", self._name, exc_info=outcome)
