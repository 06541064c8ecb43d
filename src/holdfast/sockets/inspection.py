"""What a client's message goes through before the application sees it: size, rate, a live session, its own check."""

import asyncio
import inspect
import logging
import math
from datetime import datetime
from uuid import UUID

from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import Session
from holdfast.sessions.watches import Attachment
from holdfast.sockets.expiry_notice import asks_to_extend, extended
from holdfast.sockets.guard_options import Authorize, GuardOptions
from holdfast.sockets.message_rate import MessageRate
from holdfast.web.closing import (
    INTERNAL,
    REFUSED,
    REVOKED,
    TOO_BIG,
    TOO_FAST,
    Closing,
    closing_of_end,
    closing_of_error,
)

log = logging.getLogger("holdfast.sockets")


class Inspection:
    """The inspection of one socket's messages, and the session as the last one found it."""

    __slots__ = ("_attachment", "_interval", "_manager", "_options", "_rate", "_validated_at", "_wait", "session")

    def __init__(
        self, manager: SessionManager, options: GuardOptions, session: Session, attachment: Attachment, asked_at: float
    ) -> None:
        """Begin with a session that a call made at `asked_at` (the loop's time) found live."""
        self._manager = manager
        self._options = options
        self._attachment = attachment
        self._rate = MessageRate(options.messages_per_second, options.message_burst, asked_at)
        self._wait = 0.0
        idle = manager.policy.idle_timeout
        # A client that talks all the time must not idle out because none of it was counted.
        self._interval = min(options.validate_every, math.inf if idle is None else idle.total_seconds() / 2)
        self._validated_at = asked_at
        self.session = session

    def listen(self) -> None:
        """The client's next message is waited for from now on."""
        self._rate.listen(asyncio.get_running_loop().time())

    def at_first_sight(self, payload: str | bytes) -> Closing | None:
        """Why the socket must close for this message, whoever sent it; `None` when it may go on."""
        options = self._options
        if _is_larger(payload, options.max_message_bytes):
            return TOO_BIG
        now = asyncio.get_running_loop().time()
        self._wait = self._rate.take(now)
        return TOO_FAST if self._rate.over_for(now) > options.too_fast_after else None

    async def paced(self) -> None:
        """Wait until the rate lets the message pass. Nothing is read of the client meanwhile, which slows it down."""
        if self._wait > 0:
            await asyncio.sleep(self._wait)

    async def examined(self, payload: str | bytes) -> Closing | None:
        """Why the socket must close instead of passing the message on; `None` when it passes. Never raises.

        The session is validated, once for each message unless an interval is set. While the store is away that waits
        for the deadline of its call.
        """
        try:
            closing = await self._live()
            if closing is None and self._options.authorize is not None:
                closing = await self._authorized(self._options.authorize, payload)
        except Exception as error:
            closing = closing_of_error(error)
            if closing is INTERNAL:
                log.exception("a message could not be examined, so it did not pass")
        return closing

    def asks_to_extend(self, payload: str | bytes) -> bool:
        """Whether a message asks to extend the session, and may."""
        return self._options.allow_extend and asks_to_extend(payload)

    async def extended(self) -> tuple[Closing | None, str]:
        """Extend the session: the guard's answer to the client, or why the socket must close instead."""
        try:
            expires_at = await self._prolonged()
            if expires_at is None and await self._lives_on():
                expires_at = await self._prolonged()
            return (await self._over(), "") if expires_at is None else (None, extended(expires_at))
        except StoreUnavailable as error:
            return closing_of_error(error), ""

    async def _prolonged(self) -> datetime | None:
        id, hours = self.session.id, self._options.extend_hours
        try:
            return await self._manager.extend_by_id(id, hours)
        except OutcomeUnknown:
            # Safe to repeat: the expiry never moves back.
            return await self._manager.extend_by_id(id, hours)

    async def _lives_on(self) -> bool:
        """Whether a session that a call did not find live has not ended.

        The call may have come while a write that prolongs the session was still to be committed. A look waits for it.
        """
        await self._attachment.look()
        return not self._attachment.end.done()

    async def _over(self) -> Closing:
        """How the socket closes, now that a store call did not find its session live."""
        end = await self._manager.store.end_of(UUID(self.session.id))
        # One without a trace was erased, with its user.
        return REVOKED if end is None else closing_of_end(end.reason)

    async def _live(self) -> Closing | None:
        now = asyncio.get_running_loop().time()
        if now - self._validated_at < self._interval:
            await self._attachment.confirm()
            return None
        session = await self._validated()
        if session is None and await self._lives_on():
            session = await self._validated()
        if session is None:
            return await self._over()
        self.session = session
        self._validated_at = now
        self._attachment.seen(now)
        return None

    async def _validated(self) -> Session | None:
        try:
            return await self._manager.validate_by_id(self.session.id)
        except OutcomeUnknown:
            # Sent twice it might count twice. Whether it was counted stays unknown; whether it lives can be asked.
            return await self._manager.get_by_id(self.session.id)

    async def _authorized(self, authorize: Authorize, payload: str | bytes) -> Closing | None:
        allowed = authorize(self.session, payload)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        return None if allowed else REFUSED


def _is_larger(payload: str | bytes, limit: int) -> bool:
    """Whether it has more bytes than the limit. A character of a text has one to four."""
    if isinstance(payload, bytes) or len(payload) > limit or payload.isascii():
        return len(payload) > limit
    return len(payload) * 4 > limit and len(payload.encode("utf-8", "surrogatepass")) > limit
