"""PostgreSQL only: the joined statements, which do for many callers in one round trip and one commit what a
plain statement does for one. They run on the driver's own connection, so they are compiled once, here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    CTE,
    BigInteger,
    ClauseElement,
    ColumnElement,
    CompoundSelect,
    FromClause,
    LargeBinary,
    Select,
    Subquery,
    Text,
    Update,
    Uuid,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.types import TypeEngine

from holdfast.sessions.policy import Policy
from holdfast.sql.functions import json_value, later_of
from holdfast.sql.statements import Statements
from holdfast.sql.tables import Instant, Span, Tables
from holdfast.sql.user_statements import user_lock


@dataclass(frozen=True, slots=True)
class Joined:
    """A compiled text with `$1, $2, …`, the names of its arguments in that order, and those that never change."""

    text: str
    order: tuple[str, ...]
    fixed: dict[str, Any]

    def arguments(self, **values: Any) -> list[Any]:
        """The arguments in the order that the text wants."""
        given = self.fixed | values
        return [given[name] for name in self.order]


@dataclass(frozen=True, slots=True)
class JoinedTouch:
    """The statements of a touch by one kind of key."""

    single: Joined
    """Count the activities of the one session that a key opens: what a lone caller waits for, and less work."""
    waiting: Joined
    """Count the activities; a row that others hold is waited for."""
    skipping: Joined
    """The same, but such rows are passed over, which looks as if they were not live: then ask `live`."""
    live: Joined
    """Which of many keys open a live session."""


def joined_touch(tables: Tables, statements: Statements, policy: Policy, *, by_id: bool) -> JoinedTouch:
    """Count the activities of many live sessions, named by digest or by id.

    `keys` are distinct, `activities` says how many callers each one has, `limit` is their number. The live rows are
    locked in order of id, which rotation does not change: without that, batches deadlock with each other. Answers the
    key asked for, then the columns of a `Record`.
    """
    build = _Touch(tables, statements, policy, by_id=by_id)
    # Within the grace two digests may mean one row, so that it has to be locked before it is known what was asked.
    waiting = build.touch(skip_locked=False) if build.in_grace else build.touch_in_order()
    # And there it would be looked for by an OR, for which the lanes allow no plan.
    single = waiting if build.in_grace else build.single()
    return JoinedTouch(single, waiting, build.touch(skip_locked=True), build.live())


class _Touch:
    """Builds the statements for one kind of key."""

    def __init__(self, tables: Tables, statements: Statements, policy: Policy, *, by_id: bool) -> None:
        self._sessions = tables.sessions
        self._statements = statements
        self._by_id = by_id
        # Within the grace a session has two digests, but never two ids.
        self.in_grace = bool(policy.rotation_grace) and not by_id
        self._key: TypeEngine[Any] = Uuid() if by_id else LargeBinary()

    def touch_in_order(self) -> Joined:
        """Each row is locked by its own update, one by one in order of id: less work than locking all of them first.

        The order is that of the rows it is given, because a nested loop keeps it; the lanes allow no other join. Each
        row is looked up again once its turn has come: meanwhile it may have been rotated, or have ended.
        """
        sessions = self._sessions
        asked = self._asked(in_order=self._by_id).subquery("asked")
        given: FromClause = asked
        found = sessions.c.id == asked.c.key
        if not self._by_id:
            opened = self._opened(asked).where(self._statements.live).order_by(sessions.c.id)
            given = opened.cte("opened").prefix_with("MATERIALIZED")
            found = sessions.c.digest == given.c.key
        touched = self._update(given.c.activities).where(found, self._statements.live)
        return _compiled(touched.returning(given.c.key, *self._statements.record))

    def single(self) -> Joined:
        """`key` and `activity` instead of the two arrays. Answers like the others."""
        key = bindparam("key", type_=self._key)
        found = (self._sessions.c.id if self._by_id else self._sessions.c.digest) == key
        touched = self._update(bindparam("activity", type_=BigInteger())).where(found, self._statements.live)
        return _compiled(touched.returning(key, *self._statements.record))

    def _asked(self, *, in_order: bool) -> Select[Any]:
        """What was asked: keys, and how many callers each one has."""
        given = (
            func.unnest(bindparam("keys", type_=ARRAY(self._key)), bindparam("activities", type_=ARRAY(BigInteger)))
            .table_valued(column("key", self._key), column("activities", BigInteger))
            .render_derived()
        )
        # A limit that is not known when the plan is made counts as a tenth of ten rows: for one row the planner takes
        # the unique index, whatever it believes about the size of the table, and its plan is right at any size.
        asked = select(given.c.key, given.c.activities).limit(bindparam("limit"))
        return asked.order_by(given.c.key) if in_order else asked

    def _update(self, activities: ColumnElement[int]) -> Update:
        sessions = self._sessions
        return update(sessions).values(
            request_count=sessions.c.request_count + activities,
            last_activity=later_of(sessions.c.last_activity, self._statements.now),
        )

    def touch(self, *, skip_locked: bool) -> Joined:
        """Lock all rows in order of id, then update them."""
        sessions = self._sessions
        asked = self._asked(in_order=False).subquery("asked")
        locked = self._locked(asked, skip_locked=skip_locked)
        # Within the grace a session may be asked for by two digests at once, but a row is updated once.
        summed = (
            select(locked.c.id, func.sum(locked.c.activities).label("activities")).group_by(locked.c.id).cte("summed")
            if self.in_grace
            else locked
        )
        # Live a moment ago, and locked since: nobody can have ended it in between.
        touched = self._update(summed.c.activities).where(sessions.c.id == summed.c.id)
        if not self.in_grace:
            return _compiled(touched.returning(locked.c.key, *self._statements.record))
        rows = touched.returning(*self._statements.record).cte("touched")
        return _compiled(select(locked.c.key, *rows.c).join_from(locked, rows, rows.c.id == locked.c.id))

    def live(self) -> Joined:
        given = func.unnest(bindparam("keys", type_=ARRAY(self._key))).table_valued(column("key", self._key))
        asked = select(given.render_derived().c.key).limit(bindparam("limit")).subquery("asked")
        opened = self._opened(asked).where(self._statements.live).subquery("opened")
        return _compiled(select(opened.c.key))

    def _locked(self, asked: Subquery, *, skip_locked: bool) -> CTE:
        """The live sessions that the asked keys open, locked, each with what was asked of it."""
        sessions = self._sessions
        if not self.in_grace:
            return (
                self._opened(asked)
                .where(self._statements.live)
                .order_by(sessions.c.id)
                .with_for_update(of=sessions, skip_locked=skip_locked)
                .cte("locked")
                .prefix_with("MATERIALIZED")
            )
        # Two digests of one session may be asked for at once, but a row is locked once: a second lock on one that
        # changed while the first waited finds nothing. What each digest opens is then decided by the locked row.
        found = self._found(asked).cte("found").prefix_with("MATERIALIZED")
        ids = select(found.c.id).distinct().subquery("ids")
        columns = sessions.c.id, sessions.c.digest, sessions.c.previous_digest, sessions.c.replaced_at
        rows = (
            select(*columns)
            .join_from(ids, sessions, sessions.c.id == ids.c.id)
            .where(self._statements.live)
            .order_by(sessions.c.id)
            .with_for_update(of=sessions, skip_locked=skip_locked)
            .cte("rows")
            .prefix_with("MATERIALIZED")
        )
        return (
            select(*found.c)
            .join_from(found, rows, rows.c.id == found.c.id)
            .where(self._statements.opens(found.c.key, rows.c))
            .cte("locked")
            .prefix_with("MATERIALIZED")
        )

    def _opened(self, asked: Subquery) -> Select[Any]:
        """The sessions that the asked keys open, live or not; locks nothing."""
        sessions = self._sessions
        if self._by_id:
            return select(sessions.c.id, *asked.c).join_from(asked, sessions, sessions.c.id == asked.c.key)
        opens = self._statements.opens
        if not self.in_grace:
            return select(sessions.c.id, *asked.c).join_from(asked, sessions, opens(asked.c.key))
        found = self._found(asked).subquery("found")
        return select(*found.c).join_from(found, sessions, sessions.c.id == found.c.id).where(opens(found.c.key))

    def _found(self, asked: Subquery) -> CompoundSelect[Any]:
        """The sessions whose present or previous digest was asked for.

        Each of the two indexes is searched by itself: for an OR of both the planner would search neither.
        """
        sessions = self._sessions
        return union_all(
            select(sessions.c.id, *asked.c).join_from(asked, sessions, sessions.c.digest == asked.c.key),
            select(sessions.c.id, *asked.c).join_from(asked, sessions, sessions.c.previous_digest == asked.c.key),
        )


def joined_create(tables: Tables, statements: Statements, policy: Policy) -> Joined:
    """Insert many sessions, each under the shared lock of its user, taken in key order.

    A revoke of all sessions of a user takes that lock exclusively: so every create is either committed before the
    revoke looks, or comes after it. An id that is there already is an earlier attempt's success and stays.
    """
    sessions = tables.sessions
    asked = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Uuid())),
            bindparam("digests", type_=ARRAY(LargeBinary)),
            bindparam("user_ids", type_=ARRAY(Text)),
            bindparam("texts", type_=ARRAY(Text)),
        )
        .table_valued(
            column("id", Uuid()),
            column("digest", LargeBinary),
            column("user_id", Text),
            column("text", Text),
            name="asked",
        )
        .render_derived()
    )
    users = (
        select(user_lock(asked.c.user_id).label("key"))
        .where(asked.c.user_id.is_not(None))
        .distinct()
        .order_by("key")
        .subquery("users")
    )
    locks = (
        select(func.pg_advisory_xact_lock_shared(users.c.key).label("taken")).cte("locks").prefix_with("MATERIALIZED")
    )
    # The count comes first and takes the locks; then the clock is read, once, so that the three times agree.
    begun = select(select(func.count()).select_from(locks).scalar_subquery().label("n"), statements.now.label("now"))
    clock = begun.cte("clock").prefix_with("MATERIALIZED")
    now: ColumnElement[datetime] = type_coerce(clock.c.now, Instant())
    lifetime = literal(policy.lifetime, Span())
    rows = select(
        asked.c.id,
        asked.c.digest,
        asked.c.user_id,
        json_value(asked.c.text),
        now,
        now,
        type_coerce(now + lifetime, Instant()),
    ).where(clock.c.n >= literal_column("0"))
    names = ["id", "digest", "user_id", "metadata", "created_at", "last_activity", "expires_at"]
    return _compiled(
        postgresql_insert(sessions)
        .from_select(names, rows)
        .on_conflict_do_nothing(index_elements=[sessions.c.id])
        .returning(*statements.record)
    )


def _compiled(statement: ClauseElement) -> Joined:
    compiled = cast("Any", statement.compile(dialect=asyncpg.dialect()))  # type: ignore[no-untyped-call]  # untyped there
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return Joined(compiled.string, tuple(compiled.positiontup), fixed)
