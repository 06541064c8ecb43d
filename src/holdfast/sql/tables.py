"""The schema, once, for both databases. The migrations are compared with it by a test.

The column names of `sessions` are public: applications join on `id` and `user_id`. Nothing that a validate changes
is indexed, so that PostgreSQL can update a row within its page (heap-only) and touch no index.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID, SafeUUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    column,
    false,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine

from holdfast.sessions.errors import InvalidArgument, StoreRefused

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_HEXADECIMAL: Final = 32
_new: Final = object.__new__
# Its own refuses: a UUID does not change.
_set: Final = object.__setattr__
VERSION_TABLE: Final = "holdfast_version"


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC: `timestamptz`, or in SQLite whole microseconds since 1970, which compare as numbers."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of a database."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database. A naive time is refused: it would mean another instant on every machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time has no meaning here; give it a time zone")
        return value if dialect.name == "postgresql" else since_epoch(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        return value if value is None or isinstance(value, datetime) else instant(value)


class Span(TypeDecorator[timedelta]):
    """A length of time: `interval`, or in SQLite whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type of a database."""
        return dialect.type_descriptor(INTERVAL() if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> Any:
        """To the database."""
        return value if value is None or dialect.name == "postgresql" else value // _MICROSECOND


class Ids(TypeDecorator[Sequence[UUID]]):
    """Any number of ids as one value: an array, or in SQLite a JSON text of their hexadecimal form."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type of a database."""
        return dialect.type_descriptor(ARRAY(Uuid()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[UUID] | None, dialect: Dialect) -> Any:
        """To the database."""
        if value is None or dialect.name == "postgresql":
            return value
        return json.dumps([id.hex for id in value])


def instant(microseconds: int) -> datetime:
    """The instant that SQLite's number stands for. Raises `StoreRefused` for what another program put in its place."""
    try:
        return EPOCH + timedelta(0, 0, microseconds)
    except (TypeError, OverflowError):
        raise StoreRefused("a row has a time that is none; end its session, or restore a backup") from None


def since_epoch(at: datetime) -> int:
    """SQLite's number for an instant: in microseconds since 1970."""
    return (at - EPOCH) // _MICROSECOND


def uuid_of(text: str) -> UUID:
    """The id that SQLite's hexadecimal text stands for.

    Raises what `UUID` does for what another program put in its place.
    """
    if len(text) != _HEXADECIMAL or "-" in text:
        return UUID(hex=text)
    # Made without its own way, which asks for all that it could be made of and takes twice as long.
    made = _new(UUID)
    _set(made, "int", int(text, 16))
    _set(made, "is_safe", SafeUUID.unknown)
    return made


def microseconds(span: timedelta) -> int:
    """A length of time as SQLite counts it."""
    return span // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one schema."""

    metadata: MetaData
    sessions: Table
    tickets: Table
    control: Table
    imported: Table
    processes: Table


@cache
def tables(schema: str | None) -> Tables:
    """The tables in a PostgreSQL schema; `None` for SQLite, which has none. Made once: nobody changes them."""
    metadata = MetaData(schema=None if schema is None else checked_schema(schema))
    return Tables(
        metadata,
        _sessions(metadata, metadata.schema),
        _tickets(metadata),
        _control(metadata),
        _imported(metadata),
        _processes(metadata),
    )


def sessions_table(metadata: MetaData, schema: str | None = None) -> Table:
    """The `sessions` table as part of an application's own metadata, for joins in its own SQL.

        sessions = sessions_table(MetaData())
        select(messages).join(sessions, messages.c.session_id == sessions.c.id)

    Read it, join it; write it only through a `SessionManager`. `ended_at IS NULL` is not yet *live*: see
    `expires_at`. Asked for twice it is the same table. Raises `InvalidArgument` for a schema name that is not a plain
    identifier, and when the metadata has a table of the application's own in its place.
    """
    place = metadata.schema if schema is None else checked_schema(schema)
    there = metadata.tables.get("sessions" if place is None else f"{place}.sessions")
    if there is None:
        return _sessions(metadata, place)
    if there.info.get("holdfast") is not True:
        raise InvalidArgument("this metadata has another table 'sessions' already; give the schema of Holdfast's")
    return there


def checked_schema(schema: str) -> str:
    """A schema name that needs no quoting tricks; anything else raises `InvalidArgument`."""
    if not isinstance(schema, str) or _SCHEMA.fullmatch(schema) is None:
        raise InvalidArgument("the schema is a plain name: letters, digits and _, not beginning with a digit")
    return schema


def qualified(schema: str, table: str) -> str:
    """A table's name for SQL. Schemas are plain names."""
    return f'"{schema}"."{table}"'


def _sessions(metadata: MetaData, schema: str | None) -> Table:
    table = Table(
        "sessions",
        metadata,
        Column("id", Uuid(), primary_key=True, comment="public handle, UUIDv7; opens nothing"),
        Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the present token"),
        Column(
            "previous_digest",
            LargeBinary,
            comment="of the token that rotation replaced; null before the first",
        ),
        Column("replaced_at", Instant(), comment="when the present token replaced it"),
        Column("user_id", Text, comment="null for an anonymous visitor"),
        Column("metadata", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        Column("metadata_version", BigInteger, nullable=False, server_default="0"),
        Column("created_at", Instant(), nullable=False),
        Column("expires_at", Instant(), nullable=False),
        Column("last_activity", Instant(), nullable=False),
        Column("request_count", BigInteger, nullable=False, server_default="0"),
        Column("ended_at", Instant(), comment="null until ended or swept"),
        Column("end_reason", Text, comment="expired, idle, revoked or evicted; null until ended_at is set"),
        Column("notified_at", Instant(), comment="when an end hook had heard of it; null until then"),
        Column(
            "clear_token",
            Boolean,
            nullable=False,
            server_default=false(),
            comment="whether the present token has another application's form",
        ),
        CheckConstraint("(ended_at IS NULL) = (end_reason IS NULL)", name="sessions_end_check"),
        schema=schema,
        info={"holdfast": True},
    )
    ended = table.c.ended_at.is_not(None)
    # On end_reason, not on ended_at, though the two are null together: the statements that look up one session test
    # ended_at, and before the first ANALYZE the planner would take a small partial index for a short cut to them.
    # Those that walk through the live sessions say so by testing end_reason too.
    live = table.c.end_reason.is_(None)
    known = table.c.user_id.is_not(None)
    replaced = table.c.previous_digest.is_not(None)
    Index("sessions_digest_key", table.c.digest, unique=True)
    Index(
        "sessions_previous_digest_idx",
        table.c.previous_digest,
        postgresql_where=replaced,
        sqlite_where=replaced,
    )
    Index("sessions_expires_at_idx", table.c.expires_at, postgresql_where=live, sqlite_where=live)
    # Of the ended ones too, which an erase has to find.
    Index("sessions_user_id_idx", table.c.user_id, table.c.id, postgresql_where=known, sqlite_where=known)
    clear = column("clear_token", Boolean)
    Index("sessions_clear_token_idx", table.c.id, postgresql_where=clear, sqlite_where=clear)
    Index("sessions_ended_at_idx", table.c.ended_at, postgresql_where=ended, sqlite_where=ended)
    return table


def _tickets(metadata: MetaData) -> Table:
    sessions = "sessions.id" if metadata.schema is None else f"{metadata.schema}.sessions.id"
    table = Table(
        "holdfast_tickets",
        metadata,
        Column("digest", LargeBinary, primary_key=True),
        Column("session_id", Uuid(), ForeignKey(sessions, ondelete="CASCADE"), nullable=False),
        Column("origin", Text, comment="the Origin header it is bound to; null for none"),
        Column("expires_at", Instant(), nullable=False),
    )
    Index("holdfast_tickets_session_id_idx", table.c.session_id)
    Index("holdfast_tickets_expires_at_idx", table.c.expires_at)
    return table


def _control(metadata: MetaData) -> Table:
    return Table(
        "holdfast_control",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1: there is one row"),
        Column("authority", Text, nullable=False, comment="here while this store accepts writes"),
        Column("epoch", BigInteger, nullable=False, comment="grows with every change of authority"),
        Column("hooks_expected_at", Instant(), comment="when a process with an end hook was last here"),
        Column(
            "store_id",
            Uuid(),
            nullable=False,
            comment="what a backup is known by; copies of the whole database share it",
        ),
        CheckConstraint("id = 1", name="holdfast_control_one_row_check"),
    )


def _imported(metadata: MetaData) -> Table:
    table = Table(
        "holdfast_imported",
        metadata,
        Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the token, or of a row without one"),
        Column("session_id", Uuid(), comment="what it became; null when quarantined"),
        Column("user_id", Text),
        Column("remarks", Text, nullable=False, comment="repairs, or why not; empty for an exact row"),
        Column("live", Boolean, nullable=False, comment="whether somebody may have been logged in by it"),
        Column("original", Text, comment="JSON of all but the token; null for an exact row"),
    )
    known = table.c.user_id.is_not(None)
    Index("holdfast_imported_user_id_idx", table.c.user_id, postgresql_where=known, sqlite_where=known)
    return table


def _processes(metadata: MetaData) -> Table:
    return Table(
        "holdfast_processes",
        metadata,
        Column("id", Uuid(), primary_key=True, comment="of one open store in one process"),
        Column("host", Text, nullable=False, comment="the name of its machine"),
        Column("pid", BigInteger, nullable=False, comment="its number there"),
        Column("follows", Boolean, nullable=False, comment="whether it knows both stores of a move"),
        Column("seen_at", Instant(), nullable=False, comment="when it was last here"),
    )
