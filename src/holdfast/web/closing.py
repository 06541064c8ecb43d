"""Why a guarded socket closes, as the code and the reason that its client reads.

Codes from 1000 to 2999 belong to the protocol (RFC 6455, 7.4), those from 3000 are registered with IANA, those from
4000 are for private use. Reasons are fixed words, so that none can hold what a client or a store said; a close frame
takes at most 123 bytes of them.
"""

from typing import Final, NamedTuple

from holdfast.sessions.errors import Overloaded, StoreUnavailable
from holdfast.sessions.session import EndReason
from holdfast.web.errors import CrossSite, NoSession


class Closing(NamedTuple):
    """One close frame."""

    code: int
    reason: str


DONE: Final = Closing(1000, "")
"""The application is finished with it."""
ABNORMAL: Final = Closing(1006, "")
"""The connection went away without a word. Never sent: it is what the application is told."""
REFUSED: Final = Closing(1008, "refused")
"""The application's check said no to a message."""
TOO_FAST: Final = Closing(1008, "too fast")
"""More messages than the rate allows."""
TOO_MANY: Final = Closing(1008, "too many")
"""The session, its user or the address has as many sockets as it may."""
TOO_BIG: Final = Closing(1009, "too big")
"""A message is larger than the limit."""
INTERNAL: Final = Closing(1011, "internal")
"""A fault of the application or of Holdfast."""
RESTART: Final = Closing(1012, "restart")
"""This server is being stopped; another one, or the next, will serve."""
OVERLOADED: Final = Closing(1013, "overloaded")
"""This server has all the sockets or handshakes it may, or too many calls wait for the store."""
TOO_SLOW: Final = Closing(1013, "too slow")
"""The client does not read what it is sent."""
UNAVAILABLE: Final = Closing(1013, "unavailable")
"""The store cannot say whether the session lives, so nothing may pass."""
UNAUTHENTICATED: Final = Closing(3000, "unauthenticated")
"""The handshake had no credential, or none that opens a session."""
FORBIDDEN: Final = Closing(3003, "forbidden")
"""The credential is good, and not for this: a page of another origin, or another session's id."""
EXPIRED: Final = Closing(4401, "expired")
IDLE: Final = Closing(4401, "idle")
REVOKED: Final = Closing(4403, "revoked")
EVICTED: Final = Closing(4409, "evicted")

_OF_END: Final[dict[EndReason, Closing]] = {"expired": EXPIRED, "idle": IDLE, "revoked": REVOKED, "evicted": EVICTED}

CODES: Final = frozenset(
    (1000, 1001, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 3003, 4401, 4403, 4409),
)
"""The codes that have a meaning here. Clients may send any other, so counting by code needs an end."""


def closing_of_end(reason: EndReason) -> Closing:
    """How a socket closes when its session is over."""
    return _OF_END[reason]


def closing_of_error(error: Exception) -> Closing:
    """How a socket closes when it cannot go on because of an error."""
    if isinstance(error, NoSession | CrossSite):
        return UNAUTHENTICATED if isinstance(error, NoSession) else FORBIDDEN
    if isinstance(error, Overloaded):
        return OVERLOADED
    return UNAVAILABLE if isinstance(error, StoreUnavailable) else INTERNAL
