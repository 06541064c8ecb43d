"""The public handle of a session: a UUIDv7 (RFC 9562), safe in logs, URLs and pages; it opens nothing.

It begins with the milliseconds of its making, so new rows land at the end of the primary key and a page of
sessions is in order of creation. That instant comes from the process and decides nothing.
"""

import secrets
import time
from uuid import UUID

from holdfast.sessions.errors import InvalidArgument


def new_id() -> UUID:
    """A fresh id. Two made in one millisecond are in no particular order."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return UUID(
        int=(milliseconds & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (random >> 62) << 64
        | 0b10 << 62
        | random & (1 << 62) - 1
    )


def parse_id(text: str | UUID) -> UUID | None:
    """The id that a text names, in the canonical form of 36 characters, or `None` for any other text.

    Raises `InvalidArgument` when it is neither a string nor a UUID.
    """
    if isinstance(text, UUID):
        return text
    if not isinstance(text, str):
        raise InvalidArgument(f"an id is a string, not {type(text).__name__}")
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text.lower() else None
