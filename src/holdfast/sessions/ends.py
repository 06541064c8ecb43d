"""Who is told that a session is over: the watches of this process, and the application's hook.

The ended row is the truth and the queue: an end stays in the store until a hook has heard of it, so that a crash
between the end and the hook only delays the telling until the next sweep of any server.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.session import End
from holdfast.sessions.store import Store

EndHook = Callable[[End], Awaitable[None] | None]
"""Called at least once for every end, by one of the servers: a function or a coroutine function."""

log = logging.getLogger("holdfast.sessions")


class Ends:
    """The watches and the hook of one manager."""

    def __init__(self, hook: EndHook | None) -> None:
        """Make it with the application's hook, or without one."""
        self.hook = hook
        self._watches: dict[str, set[asyncio.Future[End]]] = {}
        self._untold: deque[End] = deque()
        self._telling: asyncio.Task[None] | None = None

    def expect(self, session_id: str) -> asyncio.Future[End]:
        """A future that gets the end of this session, if this process hears of it."""
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._watches.setdefault(session_id, set()).add(future)
        return future

    def forget(self, session_id: str, future: asyncio.Future[End]) -> None:
        """Take back an `expect`. Safe to repeat."""
        future.cancel()
        if watches := self._watches.get(session_id):
            watches.discard(future)
            if not watches:
                del self._watches[session_id]

    def heard(self, store: Store, ends: Iterable[End]) -> None:
        """Wake the watches at once and tell the hook in the background. Never raises, never waits."""
        for end in ends:
            for future in self._watches.pop(end.id, ()):
                if not future.done():
                    future.set_result(end)
            if self.hook is not None:
                self._untold.append(end)
        if self._untold and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_all(store))

    async def tell(self, store: Store, ends: Iterable[End]) -> None:
        """Call the hook for each end and note in the store which ones it took.

        A hook that raises is logged and gets that end again at a later sweep.
        """
        if self.hook is None:
            return
        told: list[UUID] = []
        for end in ends:
            try:
                outcome = self.hook(end)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                log.exception("the end hook failed; it gets this end again", extra={"session_id": end.id})
            else:
                told.append(UUID(end.id))
        if told:
            await store.told(told)

    async def finish(self) -> None:
        """Wait until the hook was told of every end that this process made, whether or not it took them."""
        if self._telling is not None:
            # Not awaited itself: a caller that is cancelled here must not take everybody's telling down with it.
            await asyncio.wait((self._telling,))

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
