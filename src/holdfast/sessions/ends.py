"""Who is told that a session is over: the watches of this process, and the application's hook.

The ended row is the truth and the queue: an end stays in the store until a hook has heard of it, so that a crash
between the end and the hook only delays the telling until the next sweep of any server.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.observer import NOBODY, Observer
from holdfast.sessions.session import End, EndReason
from holdfast.sessions.store import Store

EndHook = Callable[[End], Awaitable[None] | None]
"""Called at least once for every end, by one of the servers: a function or a coroutine function.

A coroutine is cancelled after `HOOK_SECONDS`. A function runs in the event loop and must not block: nothing stops it.
"""

HOOK_SECONDS = 10.0
"""What one call of the hook may take, and what `finish` waits for the hook altogether.

Longer than any call over a network that still is of use, and no longer than servers are given to shut down in.
"""

MAX_FAILED = 10_000
"""How many ends whose hook failed are remembered: a page of the store's with all of them is still a small answer."""

log = logging.getLogger("holdfast.sessions")


class Ends:
    """The hook of one manager, and the store calls under way that make ends."""

    def __init__(self, hook: EndHook | None, over: Callable[[Iterable[End]], None]) -> None:
        """Make it with the application's hook, or without one. `over` is told at once, for the watches."""
        self.hook = hook
        self.failed: dict[str, None] = {}
        """Ids of ends that the hook did not take when it was called last, in the order of those calls."""
        self.observer: Observer = NOBODY
        self._over = over
        self._making: set[asyncio.Task[Sequence[End]]] = set()
        self._untold: deque[End] = deque()
        self._telling: asyncio.Task[None] | None = None

    async def made(
        self,
        store: Store,
        call: Callable[[], Awaitable[Sequence[End]]],
        doubted: tuple[UUID, EndReason] | None = None,
    ) -> Sequence[End]:
        """Make a store call that ends sessions, and hear of what it ended, even if the caller is cancelled meanwhile.

        Raises what the call raises. After `OutcomeUnknown` the store is asked once for the end that is `doubted`, so
        that watches and hook hear of it. Without an id to ask for they hear later: a watch at the next look at its
        session, within seconds, the hook at a later sweep.
        """
        task = asyncio.create_task(self._made(store, call, doubted))
        self._making.add(task)
        task.add_done_callback(self._making_done)
        return await asyncio.shield(task)

    async def _made(
        self, store: Store, call: Callable[[], Awaitable[Sequence[End]]], doubted: tuple[UUID, EndReason] | None
    ) -> Sequence[End]:
        try:
            ends = await call()
        except OutcomeUnknown:
            if doubted is not None:
                await self._doubt(store, *doubted)
            raise
        self.heard(store, ends)
        return ends

    async def _doubt(self, store: Store, id: UUID, reason: EndReason) -> None:
        try:
            end = await store.end_of(id)
        except StoreUnavailable as error:
            log.warning("whether a session ended is not known; watches and hook hear of it later: %s", error)
            return
        # Another reason is another's end, or time that ran out and that no sweep has noted yet.
        if end is not None and end.reason == reason:
            self.heard(store, (end,))

    def _making_done(self, task: asyncio.Task[Sequence[End]]) -> None:
        self._making.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The caller has it too, unless it was cancelled: then this is all that is heard of it.
            log.debug("an end was not made, or not known to be: %s", error)

    def heard(self, store: Store, ends: Iterable[End]) -> None:
        """Wake the watches at once and tell the hook in the background. Never raises, never waits."""
        ends = list(ends)
        self._over(ends)
        if ends:
            self.observer.ended(ends)
            _note(ends)
        if self.hook is not None:
            self._untold.extend(ends)
        if self._untold and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_all(store))

    async def tell(self, store: Store, ends: Iterable[End], within: float | None = None) -> None:
        """Call the hook for each end and note in the store which ones it took.

        A hook that raises, or takes longer than `HOOK_SECONDS`, is logged and gets that end again at a later sweep;
        so do the ends that are left when `within` seconds are over.
        """
        if self.hook is None:
            return
        told: list[UUID] = []
        time = asyncio.get_running_loop().time
        until = None if within is None else time() + within
        try:
            for end in ends:
                if until is not None and time() >= until:
                    break
                if await self._took(self.hook, end):
                    told.append(UUID(end.id))
        finally:
            # Stopped half way too: what was told must not be told again.
            if told:
                await store.told(told)

    async def _took(self, hook: EndHook, end: End) -> bool:
        self.failed.pop(end.id, None)
        try:
            outcome = hook(end)
            if inspect.isawaitable(outcome):
                async with asyncio.timeout(HOOK_SECONDS):
                    await outcome
        except Exception:
            log.exception("the end hook failed; it gets this end again", extra={"session_id": end.id})
            self.failed[end.id] = None
            if len(self.failed) > MAX_FAILED:
                del self.failed[next(iter(self.failed))]
            return False
        return True

    async def finish(self) -> None:
        """Wait until the hook was told of every end that this process made, whether or not it took them.

        No longer than `HOOK_SECONDS`: then the telling goes on without whoever waits here.
        """
        if self._telling is not None:
            # Not awaited itself: a caller that is cancelled here must not take everybody's telling down with it.
            await asyncio.wait((self._telling,), timeout=HOOK_SECONDS)

    async def close(self) -> None:
        """Wait for the ends that are being made and for the hook, see `finish`; what is untold then stays so.

        The next sweep of any server tells it.
        """
        while self._making:
            await asyncio.wait(tuple(self._making))
        await self.finish()
        if self._telling is not None and not self._telling.done():
            log.warning("the end hook took too long; it gets the ends that are left at a later sweep")
            self._untold.clear()
            self._telling.cancel()
            # Bounded as well: a hook may refuse to be cancelled.
            await asyncio.wait((self._telling,), timeout=HOOK_SECONDS)

    async def _tell_all(self, store: Store) -> None:
        while self._untold:
            batch = [self._untold.popleft() for _ in range(len(self._untold))]
            # What is not noted stays untold in the store, so the sweep of any server tells it later.
            try:
                await self.tell(store, batch)
            except StoreUnavailable as error:
                log.warning("the store did not note which ends were told; a hook gets them again: %s", error)
            except Exception:
                log.exception("the store did not note which ends were told; a hook gets them again")


def _note(ends: Iterable[End]) -> None:
    """A line for each end that somebody made; those of time are many and are nobody's doing."""
    for end in ends:
        level = logging.DEBUG if end.reason in ("expired", "idle") else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "a session ended: %s", end.reason, extra={"session_id": end.id, "reason": end.reason})
