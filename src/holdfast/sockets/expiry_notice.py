"""The guard's own messages to a client: that its session runs out, and that it was extended.

They are texts with one JSON object that has the key `holdfast`, so that a client can tell them from the application's.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.timestamps import timestamp
from holdfast.sessions.watches import Attachment

log = logging.getLogger("holdfast.sockets")

_EXTEND: Final = {"holdfast": "extend"}
_LONGEST_REQUEST: Final = 64
_RETRY_SECONDS: Final = 1.0

Tell = Callable[[str], Awaitable[None]]


def asks_to_extend(payload: str | bytes) -> bool:
    """Whether a client's message is the request to extend its session: `{"holdfast": "extend"}`, in any spacing."""
    if not isinstance(payload, str) or len(payload) > _LONGEST_REQUEST or "holdfast" not in payload:
        return False
    try:
        return bool(json.loads(payload) == _EXTEND)
    except ValueError:
        return False


def extended(expires_at: datetime) -> str:
    """The answer to that request."""
    return _frame("extended", expires_at)


async def give_notice(attachment: Attachment, clock: Clock, before: float, tell: Tell) -> None:
    """Tell a client `before` seconds before its session runs out, again after each extension, until the end.

    The time is the store's, looked at again when it is needed; the session may have been extended by anyone meanwhile.
    """
    told: datetime | None = None
    while not attachment.end.done():
        left = attachment.seconds_left
        if left is not None and left > before:
            await clock.sleep(left - before)
        try:
            await attachment.look()
        except StoreUnavailable as error:
            # The socket stays; it would be wrong to warn of a time that is not known.
            log.debug("when a session runs out is not known; asking again: %s", error)
            await clock.sleep(_RETRY_SECONDS)
            continue
        left, due = attachment.seconds_left, attachment.due
        if left is None or due is None or left > before:
            continue
        if due != told:
            told = due
            await tell(_frame("expiring", due))
        await clock.sleep(max(left, _RETRY_SECONDS))


def _frame(kind: str, expires_at: datetime) -> str:
    return json.dumps({"holdfast": kind, "expires_at": timestamp(expires_at)}, separators=(",", ":"))
