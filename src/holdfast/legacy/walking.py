"""All rows of a legacy table in the order of their keys, in reads so short that they keep nobody waiting for long.

Under a rollback journal, which old applications have by default, a writer cannot commit while somebody reads.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from holdfast.legacy.rows import LegacyRow

CHUNK: Final = 500
_NAMES: Final = ", ".join(LegacyRow._fields)

_STRANGE: Final = f"SELECT {_NAMES} FROM sessions WHERE session_id IS NULL OR session_id <= '' OR session_id >= x''"  # noqa: S608 - our own names
"""Rows whose key is no text, or an empty one: few, if any. An index finds them."""
_TEXT: Final = (
    f"SELECT {_NAMES}, CAST(session_id AS BLOB) FROM sessions "  # noqa: S608 - our own names
    "WHERE session_id > CAST(? AS TEXT) AND session_id < x'' ORDER BY session_id LIMIT ?"
)
"""Some of the others, after a key that is given as bytes: it need not be UTF-8."""


def strange_rows(driver: sqlite3.Connection) -> list[LegacyRow]:
    """The rows whose key no token can be."""
    return [LegacyRow._make(row) for row in driver.execute(_STRANGE).fetchall()]


def rows_after(driver: sqlite3.Connection, place: bytes) -> tuple[list[LegacyRow], bytes | None]:
    """Some of the other rows after a place, at first `b""`; and the place to go on after, `None` at the end."""
    rows: list[tuple[Any, ...]] = driver.execute(_TEXT, (place, CHUNK)).fetchall()
    return [LegacyRow._make(row[:-1]) for row in rows], rows[-1][-1] if len(rows) == CHUNK else None


def all_rows(driver: sqlite3.Connection) -> Iterator[LegacyRow]:
    """Every row, each chunk in a read of its own. The driver's texts come back as `reading.as_text` gives them."""
    yield from strange_rows(driver)
    place: bytes | None = b""
    while place is not None:
        rows, place = rows_after(driver, place)
        yield from rows
