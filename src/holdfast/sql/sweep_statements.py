"""The statements of the sweep and of the end hook, which work in batches. Nothing runs here."""

from functools import cached_property
from typing import Any

from sqlalchemy import (
    Select,
    Update,
    bindparam,
    delete,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningDelete

from holdfast.sql.functions import among
from holdfast.sql.terms import Terms, with_id_among


class SweepStatements(Terms):
    """The statements for one schema under one policy."""

    @cached_property
    def untold(self) -> Select[Any]:
        """The oldest ends that no hook has heard of, past a certain age."""
        columns = self._sessions.c
        return (
            select(*self._marked)
            .where(columns.ended_at <= self._ago("older_than"), columns.notified_at.is_(None))
            .order_by(columns.ended_at)
            .limit(bindparam("limit"))
        )

    # The sweep

    @cached_property
    def mark_expired(self) -> Update:
        """Mark some sessions that have run out as ended, passing over rows that others hold."""
        columns = self._sessions.c
        due = or_(self._expired, self._idle) if self._idle_until is not None else self._expired
        found = columns.expires_at <= self._begun
        if self._idle_until is not None:
            found = or_(found, self._idle_until <= self._begun)
        batch = (
            select(columns.id)
            .where(self._open, found)
            .order_by(columns.expires_at)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
            .cte("batch")
            .prefix_with("MATERIALIZED")
        )
        return (
            update(self._sessions)
            .where(among(columns.id, select(batch.c.id).scalar_subquery()), columns.ended_at.is_(None), due)
            .values(ended_at=self.now, end_reason=self._runs_out_as)
            .returning(*self._marked)
        )

    @cached_property
    def told(self) -> Update:
        """Note that a hook has heard of these ends."""
        columns = self._sessions.c
        return (
            update(self._sessions)
            .where(with_id_among(columns.id), columns.ended_at.is_not(None), columns.notified_at.is_(None))
            .values(notified_at=self.now)
        )

    @cached_property
    def expect_hooks(self) -> Update:
        """Note that a process with an end hook uses this store."""
        return update(self._tables.control).where(self._tables.control.c.id == 1).values(hooks_expected_at=self.now)

    @cached_property
    def delete_ended(self) -> ReturningDelete[*tuple[Any, ...]]:
        """Delete some ended sessions past a certain age, once told if anybody is to be told."""
        columns = self._sessions.c
        control = self._tables.control.c
        expected = (
            select(control.id).where(control.hooks_expected_at > self._ago("hooks_lease")).correlate(None).exists()
        )
        batch = (
            select(columns.id)
            .where(
                columns.ended_at <= self._ago("older_than"),
                columns.end_reason.in_(bindparam("reasons", expanding=True)),
                or_(columns.notified_at.is_not(None), not_(expected)),
            )
            .order_by(columns.ended_at)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True, of=self._sessions)
            .cte("batch")
            .prefix_with("MATERIALIZED")
        )
        return (
            delete(self._sessions).where(among(columns.id, select(batch.c.id).scalar_subquery())).returning(columns.id)
        )

    @cached_property
    def delete_tickets(self) -> ReturningDelete[*tuple[Any, ...]]:
        """Delete some tickets past their time, passing over rows that others hold."""
        tickets = self._tables.tickets
        batch = (
            select(tickets.c.digest)
            .where(tickets.c.expires_at <= self._begun)
            .order_by(tickets.c.expires_at)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
            .cte("batch")
            .prefix_with("MATERIALIZED")
        )
        return delete(tickets).where(tickets.c.digest.in_(select(batch.c.digest))).returning(tickets.c.digest)
