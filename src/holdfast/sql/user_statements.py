"""The statements about all sessions of a user, and the lock that orders them with creates. Nothing runs here."""

from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    LargeBinary,
    Select,
    Text,
    Update,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql.dml import ReturningDelete

from holdfast.sessions.policy import MAX_CAP
from holdfast.sql.functions import among, json_value
from holdfast.sql.tables import Instant, Span
from holdfast.sql.terms import Terms


class UserStatements(Terms):
    """The statements for one schema under one policy."""

    def list_live(self, *, of_user: bool, after: bool) -> Select[Any]:
        """A page of live sessions in order of id, of one user or of all, from the beginning or after an id."""
        columns = self._sessions.c
        page = select(*self.record).where(self._open, self.live).order_by(columns.id).limit(bindparam("limit"))
        if of_user:
            page = page.where(columns.user_id == bindparam("user", type_=Text()))
        return page.where(columns.id > bindparam("after", type_=Uuid())) if after else page

    @cached_property
    def lock_user(self) -> Select[Any]:
        """PostgreSQL only: wait for the user's creates under way, and let later ones wait, until the commit."""
        return select(func.pg_advisory_xact_lock(user_lock(bindparam("user", type_=Text()))))

    @cached_property
    def count_user(self) -> Select[Any]:
        """How many live sessions a user has; exact under the user's lock."""
        columns = self._sessions.c
        return (
            select(func.count())
            .select_from(self._sessions)
            .where(columns.user_id == bindparam("user", type_=Text()), self._open, self.live)
        )

    @cached_property
    def create_locked(self) -> Insert:
        """Insert a session under its user's lock, with an id that was found not to be there."""
        # Read once, so that the three times agree: on PostgreSQL the clock goes on within a statement.
        begun = select(self.now.label("now")).subquery("begun")
        now: ColumnElement[datetime] = type_coerce(begun.c.now, Instant())
        row = select(
            bindparam("new_id", type_=Uuid()),
            bindparam("new_digest", type_=LargeBinary),
            bindparam("user", type_=Text()),
            json_value(bindparam("text", type_=Text())),
            now,
            now,
            type_coerce(now + literal(self._policy.lifetime, Span()), Instant()),
        ).select_from(begun)
        names = ["id", "digest", "user_id", "metadata", "created_at", "last_activity", "expires_at"]
        return insert(self._sessions).from_select(names, row).returning(*self.record)

    @cached_property
    def evict(self) -> Update:
        """End the live sessions of a user but the youngest `:room`, locking them in order of id."""
        columns = self._sessions.c
        surplus = (
            select(columns.id)
            .where(columns.user_id == bindparam("user", type_=Text()), self._open, self.live)
            # Not by id alone: that is made of a server's clock.
            .order_by(columns.created_at.desc(), columns.id.desc())
            .limit(literal_column(str(MAX_CAP)))
            .offset(bindparam("room", type_=BigInteger()))
            .cte("surplus")
            .prefix_with("MATERIALIZED")
        )
        locked = (
            select(columns.id)
            .where(columns.id.in_(select(surplus.c.id)))
            .order_by(columns.id)
            .with_for_update()
            .cte("locked")
            .prefix_with("MATERIALIZED")
        )
        return (
            update(self._sessions)
            .where(among(columns.id, select(locked.c.id).scalar_subquery()), self.live)
            .values(ended_at=self.now, end_reason="evicted")
            .returning(*self._marked)
        )

    def end_user(self, *, keep: bool) -> Update:
        """End the live sessions of a user, all or all but one, locking them in order of id."""
        columns = self._sessions.c
        chosen = select(columns.id).where(columns.user_id == bindparam("user", type_=Text()), self._open, self.live)
        if keep:
            chosen = chosen.where(columns.id != bindparam("keep", type_=Uuid()))
        locked = chosen.order_by(columns.id).with_for_update().cte("locked").prefix_with("MATERIALIZED")
        return (
            update(self._sessions)
            .where(among(columns.id, select(locked.c.id).scalar_subquery()), self.live)
            .values(ended_at=self.now, end_reason=bindparam("reason", type_=Text()))
            .returning(*self._marked)
        )

    @cached_property
    def erase_user(self) -> ReturningDelete[*tuple[Any, ...]]:
        """Delete every row of a user, locking them in order of id; their tickets go with them."""
        columns = self._sessions.c
        chosen = select(columns.id).where(columns.user_id == bindparam("user", type_=Text()))
        locked = chosen.order_by(columns.id).with_for_update().cte("locked").prefix_with("MATERIALIZED")
        return (
            delete(self._sessions).where(among(columns.id, select(locked.c.id).scalar_subquery())).returning(columns.id)
        )


def user_lock(user_id: ColumnElement[Any]) -> ColumnElement[int]:
    """PostgreSQL only: the advisory lock of a user. Two users that share one by accident only wait for each other."""
    return func.hashtextextended(user_id, literal_column("7163402915"))
