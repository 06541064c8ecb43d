"""One row in two forms. What is copied is turned into PostgreSQL's form; what is compared or taken back, into SQLite's.

SQLite keeps an id as hexadecimal text, a time as microseconds since 1970, metadata as canonical text. Comparing uses
the way back, not the way there, so that a mistake in one of the two is a difference.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from holdfast.move.state import MoveRefused
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.metadata import EMPTY, decode
from holdfast.sql.tables import instant, since_epoch

Key = str | bytes
"""What a row is found by in SQLite: a session's id in hexadecimal form, or a ticket's digest."""

Keys = Mapping[str, Sequence[Key]]
"""Keys of each table."""

Row = tuple[Any, ...]
"""A row in SQLite's form, its key first."""

_DAMAGED: Final = (HoldfastError, TypeError, ValueError, AttributeError)
"""What turning a value raises that is not of its type."""


@dataclass(frozen=True, slots=True)
class _Form:
    type: str
    """PostgreSQL's type."""
    there: Callable[[Any], Any]
    """From SQLite to PostgreSQL."""
    back: Callable[[Any], Any]


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("not bytes")
    return value


def _metadata(value: Any) -> str:
    decode(_text(value))
    return str(value)


def _canonical(text: str) -> str:
    # jsonb has the order of canonical text, and knows no difference between an integer and a large float.
    return EMPTY if text == EMPTY else _encoder.encode(decode(text))


# Made once: `json.dumps` makes its own anew for each text.
_encoder: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


_ID: Final = _Form("uuid", lambda value: UUID(hex=value), lambda value: value.hex)
_BYTES: Final = _Form("bytea", _bytes, bytes)
_INSTANT: Final = _Form("timestamptz", instant, since_epoch)
_TEXT: Final = _Form("text", _text, str)
_NUMBER: Final = _Form("bigint", _number, int)
_FLAG: Final = _Form("boolean", lambda value: bool(_number(value)), int)
# Not by the rule for new metadata: what was imported may be larger than that allows.
_JSON: Final = _Form("jsonb", _metadata, _canonical)


@dataclass(frozen=True, slots=True)
class Shape:
    """A table that is moved: its columns, the key first, and how each is said in the two databases."""

    table: str
    forms: dict[str, _Form]

    @property
    def key(self) -> str:
        """The column that is the key."""
        return next(iter(self.forms))

    def columns(self, prefix: str = "") -> str:
        """All columns, for a statement."""
        return ", ".join(f"{prefix}{name}" for name in self.forms)

    def read_columns(self) -> str:
        """All columns as PostgreSQL's are read: JSON as text."""
        return ", ".join(f"{name}::text" if form.type == "jsonb" else name for name, form in self.forms.items())

    def to_postgresql(self, rows: Sequence[Row]) -> list[list[Any]]:
        """The values of each column, as `unnest` takes them. Raises `MoveRefused` for a row that is damaged."""
        try:
            return self._columns(rows)
        except _DAMAGED:
            # Column by column is quicker; which row it is takes a look at each.
            for row in rows:
                try:
                    self._columns([row])
                except _DAMAGED as error:
                    raise MoveRefused(
                        f"a row of {self.table} is damaged ({self.named(row)}); end the session, or mend its row"
                    ) from error
            raise

    def _columns(self, rows: Sequence[Row]) -> list[list[Any]]:
        if not rows:
            return [[] for _ in self.forms]
        theres = [form.there for form in self.forms.values()]
        pairs = zip(theres, zip(*rows, strict=True), strict=True)
        return [[None if value is None else there(value) for value in values] for there, values in pairs]

    def to_sqlite(self, row: Sequence[Any]) -> Row:
        """A row of PostgreSQL in SQLite's form."""
        pairs = zip(self.forms.values(), row, strict=True)
        return tuple(None if value is None else form.back(value) for form, value in pairs)

    def keys_to_postgresql(self, keys: Sequence[Key]) -> list[Any]:
        """Keys as PostgreSQL has them."""
        form = self.forms[self.key]
        return [form.there(key) for key in keys]

    def to_hex(self, key: Key) -> str:
        """A key as text."""
        return key if isinstance(key, str) else key.hex()

    def of_hex(self, text: str) -> Key:
        """The key that a text stands for."""
        return text if self.forms[self.key] is _ID else bytes.fromhex(text)

    def named(self, row: Row) -> str:
        """A row for a message: the id of its session, and no digest."""
        id = row[list(self.forms).index("id" if "id" in self.forms else "session_id")]
        return f"session {id}" if isinstance(id, str) and len(id) == 32 else "its id is none"


SESSIONS: Final = Shape(
    "sessions",
    {
        "id": _ID,
        "digest": _BYTES,
        "previous_digest": _BYTES,
        "replaced_at": _INSTANT,
        "user_id": _TEXT,
        "metadata": _JSON,
        "metadata_version": _NUMBER,
        "created_at": _INSTANT,
        "expires_at": _INSTANT,
        "last_activity": _INSTANT,
        "request_count": _NUMBER,
        "ended_at": _INSTANT,
        "end_reason": _TEXT,
        "notified_at": _INSTANT,
        "clear_token": _FLAG,
    },
)
TICKETS: Final = Shape(
    "holdfast_tickets", {"digest": _BYTES, "session_id": _ID, "origin": _TEXT, "expires_at": _INSTANT}
)
IMPORTED: Final = Shape(
    "holdfast_imported",
    {"digest": _BYTES, "session_id": _ID, "user_id": _TEXT, "remarks": _TEXT, "live": _FLAG, "original": _TEXT},
)
SHAPES: Final = {shape.table: shape for shape in (SESSIONS, TICKETS, IMPORTED)}
"""In the order of writing: a ticket refers to its session."""
FENCED: Final = ("sessions", "holdfast_tickets")
"""What the fence in PostgreSQL stands before. Rows of other tables change only together with these."""


@dataclass(frozen=True, slots=True)
class Images:
    """Rows as they were at one instant, and the keys that had no row then."""

    rows: dict[str, dict[Key, Row]]
    gone: dict[str, list[Key]]

    @classmethod
    def none(cls) -> "Images":
        """Of nothing."""
        return cls({table: {} for table in SHAPES}, {table: [] for table in SHAPES})

    @property
    def size(self) -> int:
        """How many keys it is about."""
        return sum(map(len, self.rows.values())) + sum(map(len, self.gone.values()))

    def differ(self, other: "Images") -> dict[str, list[Key]]:
        """The keys that the two do not say the same of. Both are of the same keys."""
        found = {}
        for table in SHAPES:
            ours, theirs = self.rows[table], other.rows[table]
            found[table] = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        return found
