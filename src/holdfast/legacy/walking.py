"""All rows of a legacy table in the order of their keys, in reads so short that they keep nobody waiting for long.

Under a rollback journal, which old applications have by default, a writer cannot commit while somebody reads.
"""

import sqlite3
from typing import Any, Final

from holdfast.legacy.rows import NAMES, LegacyRow

CHUNK: Final = 500

_STRANGE: Final = f"SELECT {NAMES} FROM sessions WHERE session_id IS NULL OR session_id <= '' OR session_id >= x''"  # noqa: S608 - our own names
"""Rows whose key is no text, or an empty one: few, if any. An index finds them."""
_ID: Final = "(SELECT i.id FROM holdfast_ids i WHERE i.session_id = s.session_id)"
_TEXT: Final = (
    f"SELECT {NAMES}, CAST(session_id AS BLOB), {{id}} FROM sessions s "  # noqa: S608 - our own names
    "WHERE session_id > CAST(? AS TEXT) AND session_id < x'' ORDER BY session_id LIMIT ?"
)
"""Some of the others, after a key that is given as bytes: it need not be UTF-8."""
_TEXT_ALONE: Final = _TEXT.format(id="NULL")
_TEXT_WITH_ID: Final = _TEXT.format(id=_ID)


def strange_rows(driver: sqlite3.Connection) -> list[LegacyRow]:
    """The rows whose key no token can be."""
    return [LegacyRow._make(row) for row in driver.execute(_STRANGE).fetchall()]


def rows_after(driver: sqlite3.Connection, place: bytes, *, served: bool) -> tuple[list[tuple[Any, ...]], bytes | None]:
    """Some of the other rows after a place, at first `b""`; and the place to go on after, `None` at the end.

    Each is the values of a `LegacyRow`, the key's bytes, and the id of its session where Holdfast serves the file: a
    million of them are read, so nothing is made of a row before somebody knows that he needs it.
    """
    rows: list[tuple[Any, ...]] = driver.execute(_TEXT_WITH_ID if served else _TEXT_ALONE, (place, CHUNK)).fetchall()
    return rows, rows[-1][-2] if len(rows) == CHUNK else None
