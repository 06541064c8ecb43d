"""What the statements of SQL have in common: the clock, what live means, and the columns of the answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    or_,
    type_coerce,
)

from holdfast.sessions.policy import Policy
from holdfast.sql.functions import clock, earlier_of, json_text, one_of, statement_clock
from holdfast.sql.tables import Ids, Instant, Span, Tables


class Terms:
    """The common terms for one schema under one policy."""

    def __init__(self, tables: Tables, policy: Policy) -> None:
        """Build them; the texts depend on nothing else."""
        self._tables = tables
        self._policy = policy
        self._sessions = tables.sessions
        self.now: ColumnElement[datetime] = type_coerce(clock() + bindparam("offset", type_=Span()), Instant())
        self._begun: ColumnElement[datetime] = type_coerce(
            statement_clock() + bindparam("offset", type_=Span()), Instant()
        )
        idle = policy.idle_timeout
        columns = self._sessions.c
        self._idle_until: ColumnElement[datetime] | None = (
            None if idle is None else type_coerce(columns.last_activity + literal(idle, Span()), Instant())
        )
        self._expired = columns.expires_at <= self.now
        self._idle: ColumnElement[bool] = false() if self._idle_until is None else self._idle_until <= self.now
        self.live: ColumnElement[bool] = and_(columns.ended_at.is_(None), columns.expires_at > self.now)
        if self._idle_until is not None:
            self.live = and_(self.live, self._idle_until > self.now)

    # Parts

    @property
    def record(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of a `Record`, in its order."""
        columns = self._sessions.c
        return (
            columns.id,
            columns.user_id,
            json_text(columns.metadata).label("metadata"),
            columns.metadata_version,
            columns.created_at,
            columns.expires_at,
            columns.last_activity,
            columns.request_count,
        )

    @property
    def _named(self) -> ColumnElement[bool]:
        columns = self._sessions.c
        return or_(
            columns.id == bindparam("key_id", type_=Uuid()),
            columns.digest == bindparam("key_digest", type_=LargeBinary),
        )

    @property
    def _open(self) -> ColumnElement[bool]:
        """Not ended: what the partial indexes hold. For the statements that walk through many sessions."""
        return self._sessions.c.end_reason.is_(None)

    @property
    def due(self) -> ColumnElement[datetime]:
        """When a session runs out by itself, be that past or to come."""
        expiry = self._sessions.c.expires_at
        return expiry if self._idle_until is None else type_coerce(earlier_of(expiry, self._idle_until), Instant())

    @property
    def _end(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of an `End`: for a session that ran out but was not swept, when and why it did."""
        columns = self._sessions.c
        reason = func.coalesce(columns.end_reason, self._runs_out_as)
        return (
            columns.id,
            columns.user_id,
            reason.label("reason"),
            type_coerce(func.coalesce(columns.ended_at, self.due), Instant()).label("ended_at"),
        )

    @property
    def _marked(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of an `End` that is in the row."""
        columns = self._sessions.c
        return columns.id, columns.user_id, columns.end_reason.label("reason"), columns.ended_at

    @property
    def _runs_out_as(self) -> ColumnElement[str]:
        """Which limit a session that has run out met first."""
        if self._idle_until is None:
            return literal("expired", Text())
        return case((self._sessions.c.expires_at <= self._idle_until, "expired"), else_="idle")

    def opens(self, digest: ColumnElement[bytes], columns: Any = None) -> ColumnElement[bool]:
        """Whether a digest may validate: the present one, or within the grace its direct predecessor.

        `columns` are those of a session that was read before, in place of the table's own.
        """
        columns = self._sessions.c if columns is None else columns
        if not self._policy.rotation_grace:
            present: ColumnElement[bool] = columns.digest == digest
            return present
        return or_(columns.digest == digest, and_(columns.previous_digest == digest, self._in_grace(columns)))

    def _in_grace(self, columns: Any) -> ColumnElement[bool]:
        grace = literal(self._policy.rotation_grace, Span())
        return type_coerce(columns.replaced_at + grace, Instant()) > self.now

    def _ago(self, name: str) -> ColumnElement[datetime]:
        return type_coerce(self._begun - bindparam(name, type_=Span()), Instant())


def with_id_among(column: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Whether an id is one of `:ids`, however many those are: the text is the same for any number."""
    return one_of(column, bindparam("ids", type_=Ids()))
