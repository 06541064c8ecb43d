"""Waiting that a decision made elsewhere can end, so that nothing goes on once a socket is to be closed."""

import asyncio
from types import TracebackType
from typing import Self


class Interruptible:
    """A block that `interrupt` leaves at once, wherever it waits; what was raised inside for that is swallowed.

    The block is left in the very next step of its task: a wait that had just come true is left as well, before
    anything that stands after it runs. A cancellation by anybody else passes through.
    """

    __slots__ = ("_cancelling", "_interrupted", "_task")

    def __init__(self) -> None:
        """Prepare a block of the current task."""
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._interrupted = False

    def interrupt(self) -> None:
        """Leave the block. Safe to repeat; no effect outside the block, and from within, where nothing waits."""
        if self._task is not None and not self._interrupted and self._task is not asyncio.current_task():
            self._interrupted = True
            self._task.cancel()

    def __enter__(self) -> Self:
        """Begin."""
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Tell our own cancellation from another's."""
        task, self._task = self._task, None
        if not self._interrupted or task is None:
            return False
        # As `asyncio.timeout` does: what is left over was somebody else's wish.
        mine = task.uncancel() <= self._cancelling
        return mine and kind is asyncio.CancelledError
