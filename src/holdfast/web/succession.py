"""A new session for a visitor, in the place of the one they had if they had one; unless they go away meanwhile.

A request may be cancelled at any call of the store. What it has begun goes on in a task of its own, which sees at each
step whether anybody is left to give the token to: a session whose token reaches nobody would be in its user's list,
and count for the cap, until it expires.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession

log = logging.getLogger("holdfast.web")

_Made = TypeVar("_Made", bound=NewSession | None)

_NAME: Final = "holdfast-succession"
_HOUR: Final = timedelta(hours=1)
# The loop itself forgets a task that nobody waits for.
_under_way: set[asyncio.Task[Any]] = set()


class Succession:
    """How one request comes by a new session."""

    def __init__(self, manager: SessionManager, span: timedelta | None = None) -> None:
        """For one request. The new session lives for the manager's lifetime, or for `span` if that is longer."""
        self._manager = manager
        self._span = span
        self._gone = asyncio.Event()

    async def begin(self, values: Mapping[str, Any] | None, user_id: str | None) -> NewSession:
        """A new session. A failure leaves none behind, if the store lets it."""
        return await self._whole(self._begin(values, user_id))

    async def succeed(
        self, id: str, its_user: str | None, values: Mapping[str, Any] | None, user_id: str | None
    ) -> NewSession | None:
        """A new session instead of the one with this id, which ends. `None` if somebody else has ended it by then.

        So of parallel attempts one succeeds, and nothing of an ended session lives on in another. The successor is
        made first, so that no failure leaves the visitor without a session; unless the user's cap has room for one
        of the two only.
        """

        async def work() -> NewSession | None:
            new = None
            if self._manager.policy.max_sessions is None or user_id is None or user_id != its_user:
                new = await self._begin(values, user_id)
            if self._gone.is_set():
                return None
            try:
                ended = await self._manager.end_session(id)
            except Exception:
                await self._take_back(new)
                raise
            if not ended:
                await self._take_back(new)
                return None
            if new is None:
                return await self._begin(values, user_id)
            if self._gone.is_set():
                await self._take_back(new)
            return new

        return await self._whole(work())

    async def take_back(self, new: NewSession) -> None:
        """End a session whose token reaches nobody after all, even if the request is cancelled meanwhile."""
        task = asyncio.create_task(self._take_back(new), name=_NAME)
        _keep(task)
        await asyncio.shield(task)

    async def _begin(self, values: Mapping[str, Any] | None, user_id: str | None) -> NewSession:
        new = await self._manager.create_session(user_id, values)
        try:
            if self._span is not None and self._span > self._manager.policy.lifetime:
                await self._manager.extend_by_id(new.id, self._span / _HOUR)
        except Exception:
            await self._take_back(new)
            raise
        if self._gone.is_set():
            await self._take_back(new)
        return new

    async def _take_back(self, new: NewSession | None) -> None:
        if new is None:
            return
        try:
            await self._manager.end_session(new.id)
        except HoldfastError as error:
            log.warning("session %s was made for nobody and lives until it expires: %s", new.id, error)

    async def _whole(self, work: Coroutine[Any, Any, _Made]) -> _Made:
        task = asyncio.create_task(work, name=_NAME)
        _keep(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._gone.set()
            if task.done() and not task.cancelled() and task.exception() is None:
                # It was made in the very moment that its request went away.
                _keep(asyncio.create_task(self._take_back(task.result()), name=_NAME))
            raise


def _keep(task: "asyncio.Task[Any]") -> None:
    _under_way.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        # The request has it too, unless it was cancelled: then this is all that is heard of it.
        log.debug("a session was not made, or not known to be: %s", error)
