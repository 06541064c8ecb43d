"""What a one-time ticket may be bound to."""

from typing import Final

from holdfast.sessions import metadata as metadata_rules
from holdfast.sessions.errors import InvalidArgument

MAX_ORIGIN: Final = 512
"""How many characters an origin may have: far more than a scheme, a host name (253, RFC 1035) and a port take."""


def may_bind(origin: object) -> bool:
    """Whether a ticket may be bound to an origin: to none at all, or to a text that both databases can hold."""
    if origin is None:
        return True
    if not isinstance(origin, str) or not 1 <= len(origin) <= MAX_ORIGIN:
        return False
    try:
        metadata_rules.checked_string(origin, "the origin")
    except InvalidArgument:
        return False
    return True
