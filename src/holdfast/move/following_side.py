"""One of the two stores of a move, as a process has it that follows: open or not, and what it says of itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from holdfast.move.failures import of_two
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import HoldfastError, StoreRefused
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Held, MovableStore

# How long a store may take to say whether it has the authority.
_HELD_SECONDS: Final = 1.0

Admit = Callable[[MovableStore], Awaitable[None]]
"""Raises `HoldfastError` for a store that was opened and must not be used."""

log = logging.getLogger("holdfast.move")


class Side:
    """One of the two stores, and whether it is open in this process."""

    def __init__(self, name: str, store: MovableStore) -> None:
        """Prepare it, under its name for messages; connects to nothing yet."""
        self.name = name
        self.store = store
        self.open = False
        self.failure: HoldfastError | None = None
        self.refused = False
        """Whether it said when it was last asked that it must not be used as it was opened: its file is another."""
        self.epoch: int | None = None
        """The epoch at which it was last found to serve: while it stays that, nobody else has served meanwhile."""
        self._opening: asyncio.Task[None] | None = None

    def start_opening(self, policy: Policy, clock: Clock, admit: Admit) -> None:
        """Open it in a task of its own, unless it is open or being opened: one that is away keeps nobody waiting."""
        if not self.open and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open(policy, clock, admit), name=f"holdfast-open-{self.name}")

    @property
    def opening(self) -> bool:
        """Whether it is still being opened."""
        return self._opening is not None and not self._opening.done()

    async def _open(self, policy: Policy, clock: Clock, admit: Admit) -> None:
        try:
            await self.store.open(policy, clock)
            try:
                await admit(self.store)
            except BaseException:
                await self.store.close()
                raise
        except HoldfastError as error:
            of_two(error, self.name)
            # Said once, not every second: it may be away for days.
            level = logging.DEBUG if str(self.failure) == str(error) else logging.WARNING
            log.log(level, "%s, one of the two stores, cannot be used; trying every second: %s", self.name, error)
            self.failure = error
        else:
            self.open, self.failure, self.refused = True, None, False

    async def close(self) -> None:
        """Close it. Safe to repeat."""
        if self._opening is not None:
            await stopped(self._opening)
        if self.open:
            self.open = False
            await self.store.close()

    async def held(self) -> Held | None:
        """Its authority; `None` while it cannot be asked, or does not answer soon."""
        if not self.open:
            return None
        try:
            # Not for as long as a call may take: whoever asks here has another store to look at.
            async with asyncio.timeout(_HELD_SECONDS):
                return await self.store.authority()
        except (HoldfastError, TimeoutError) as error:
            self.refused = isinstance(error, StoreRefused)
            log.debug("%s could not be asked for its authority: %s", self.name, error)
            return None


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
