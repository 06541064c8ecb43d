"""A manager that is opened when it is first needed, by a piece of middleware that may never see a lifespan.

An application that is mounted into another one, or tested without its lifespan, gets requests and no word before or
after them. So a task holds the manager open: when the event loop ends it cancels what is left in it, and the task
closes the manager in that very loop.
"""

import asyncio
import logging
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.process import get_session_manager

log = logging.getLogger("holdfast.web")

_STOPPED: Final = frozenset(("lifespan.shutdown.complete", "lifespan.shutdown.failed"))


class _Holding:
    """One task that opened a manager and is going to close it."""

    def __init__(self, manager: SessionManager) -> None:
        self.manager = manager
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enough = asyncio.Event()
        self._task = asyncio.create_task(self._hold(), name="holdfast-open")

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def stop(self) -> None:
        """Close the manager. Safe to repeat."""
        self._enough.set()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    async def _hold(self) -> None:
        try:
            await self.manager.open()
        except Exception as error:
            self.opened.set_exception(error)
            # Looked at here: whoever waited for it may have gone away.
            self.opened.exception()
            return
        except BaseException:
            self.opened.cancel()
            raise
        self.opened.set_result(None)
        try:
            await self._enough.wait()
        finally:
            await self.manager.close()


class LazyManager:
    """The manager that was handed over, or the process's own; open when it is asked for.

    One that somebody else opened is used as it is, and left to them.
    """

    def __init__(self, manager: SessionManager | None) -> None:
        """`None` means `get_session_manager()`, asked for when it is needed and in the process that needs it."""
        self._given = manager
        self._holding: _Holding | None = None

    async def ready(self) -> SessionManager:
        """The open manager. Raises what `SessionManager.open` raises; the next call tries again."""
        manager = self._given if self._given is not None else get_session_manager()
        if _is_open(manager):
            return manager
        holding = self._holding
        if holding is None or holding.is_over or holding.manager is not manager:
            holding = self._holding = _Holding(manager)
        elif holding.opened.done():
            # It was opened here and closed by somebody else.
            await holding.stop()
            return await self.ready()
        # One caller that is cancelled must not keep the others from their manager.
        await asyncio.shield(holding.opened)
        return manager

    async def close(self) -> None:
        """Close the manager if it was opened here. Safe to repeat."""
        holding, self._holding = self._holding, None
        if holding is not None:
            await holding.stop()

    async def lifespan(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a lifespan on: the manager opens when the application has started, and closes when it has stopped.

        Not before the application has started, so that an application that opens the manager itself is its owner.
        A store that cannot be reached keeps nothing from starting: requests that need it are answered 503 until it
        is there. One that refuses does.
        """

        async def noted(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self.ready()
                except StoreUnavailable as error:
                    log.warning("the session store cannot be reached yet: %s", error)
            elif message["type"] in _STOPPED:
                await self.close()
            await send(message)

        try:
            await app(scope, receive, noted)
        finally:
            await self.close()


def _is_open(manager: SessionManager) -> bool:
    try:
        return manager.store is not None
    except StoreUnavailable:
        return False
