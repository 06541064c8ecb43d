"""Waiting for one session's end without polling the store: a handle on the process's `Watches`."""

import asyncio
from types import TracebackType
from typing import Protocol, Self

from holdfast.sessions.session import End, Session
from holdfast.sessions.store import Store
from holdfast.sessions.tokens import TokenDigest
from holdfast.sessions.watches import Attachment, Watches


class Watched(Protocol):
    """What a watch needs of its manager."""

    watches: Watches

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
        self._attachment: Attachment | None = None

    async def __aenter__(self) -> Self:
        """Look the session up and begin to listen. Raises `StoreUnavailable`."""
        record = None if self._digest is None else await self._manager.store.get(self._digest)
        if record is not None:
            self.session = Session.of(record)
            self._attachment = self._manager.watches.attach(self.session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._attachment is not None:
            self._attachment.close()

    async def wait(self) -> End | None:
        """The end of the session: when and why. `None` at once when the token opened nothing.

        It waits through an outage of the store, which decides the end, and may be called again, by several tasks at
        once too. Raises `StoreUnavailable` when the manager is closed first.
        """
        return None if self._attachment is None else await asyncio.shield(self._attachment.end)
