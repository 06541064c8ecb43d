"""Waiting for one session's end without polling the store.

A watch hears of ends that this process makes at once, and wakes up by itself when the session's time is due: then
the store decides, because only its clock counts. An extension moves the next look, no more.
"""

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.ends import Ends
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import End, Session
from holdfast.sessions.store import Store
from holdfast.sessions.tokens import TokenDigest


class Watched(Protocol):
    """What a watch needs of its manager."""

    policy: Policy
    clock: Clock
    ends: Ends

    @property
    def store(self) -> Store: ...


class Watch:
    """An open watch: `session` as it was at the beginning, and `wait()` for its end.

    `session` is `None` when the token opened nothing; then there is nothing to wait for.
    """

    def __init__(self, manager: Watched, digest: TokenDigest | None) -> None:
        """Prepare a watch for the session that a digest opens; `None` opens none."""
        self.session: Session | None = None
        self._manager = manager
        self._digest = digest
        self._heard: asyncio.Future[End] | None = None
        self._store: Store | None = None

    async def __aenter__(self) -> Self:
        """Look the session up and begin to listen. Raises `StoreUnavailable`."""
        if self._digest is None:
            return self
        # Taken once: a manager that closes meanwhile lets the store say what it still does.
        self._store = self._manager.store
        record = await self._store.get(self._digest)
        if record is None:
            return self
        self.session = Session.of(record)
        self._heard = self._manager.ends.expect(self.session.id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self.session is not None and self._heard is not None:
            self._manager.ends.forget(self.session.id, self._heard)

    async def wait(self) -> End | None:
        """The end of the session: when and why. `None` at once when the token opened nothing.

        Raises `StoreUnavailable` when the store cannot be asked: at the first look, which it takes at once, and when
        the session's time is due and the store cannot say whether it was extended. It may be called again. Each look
        is several calls of the store, each with a deadline of its own.
        """
        if self.session is None or self._heard is None or self._store is None:
            return None
        while not self._heard.done():
            try:
                end = await self._looked(self._store, self.session, self._heard)
            except StoreUnavailable:
                # What was heard meanwhile is the answer, and needs no store.
                if not self._heard.done():
                    raise
            else:
                if end is not None:
                    return end
        return self._heard.result()

    async def _looked(self, store: Store, session: Session, heard: asyncio.Future[End]) -> End | None:
        """The end that the store knows of; `None` once it was heard, or the time for another look has come."""
        record = await store.get(UUID(session.id))
        if record is None:
            return await self._end_of(store, session)
        due = record.expires_at
        if (idle := self._manager.policy.idle_timeout) is not None:
            due = min(due, record.last_activity + idle)
        await _first(heard, self._asleep_until(store, due))
        return None

    async def _asleep_until(self, store: Store, due: datetime) -> None:
        now = await store.ping()
        await self._manager.clock.sleep((due - now).total_seconds())

    async def _end_of(self, store: Store, session: Session) -> End:
        """The end of a session that is live no longer. One without a trace was erased, with its user."""
        end = await store.end_of(UUID(session.id))
        return end or End(session.id, session.user_id, "revoked", await store.ping())


async def _first(heard: asyncio.Future[End], asleep: Awaitable[None]) -> None:
    """Wait for the one or the other, and leave no sleeper behind."""
    sleeper = asyncio.ensure_future(asleep)
    try:
        await asyncio.wait((heard, sleeper), return_when=asyncio.FIRST_COMPLETED)
        if sleeper.done():
            sleeper.result()
    finally:
        sleeper.cancel()
