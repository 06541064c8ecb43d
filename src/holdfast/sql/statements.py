"""Every statement of SQL: a name and a sentence each. Nothing runs here.

They are the same for both databases; where the two must differ, a function in `functions.py` says how.
`live` is one text for all of them, and time is the database's clock plus `:offset`, which only tests set.
A key is a digest or an id: both are bound, one of them to NULL, which equals nothing.
"""

from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Insert,
    LargeBinary,
    Select,
    Text,
    Update,
    Uuid,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    literal_column,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.dml import ReturningDelete

from holdfast.sessions.policy import Policy
from holdfast.sql.functions import among, clock, earlier_of, json_text, json_value, later_of, statement_clock
from holdfast.sql.tables import Instant, Span, Tables


class Statements:
    """The statements for one schema under one policy."""

    def __init__(self, tables: Tables, policy: Policy) -> None:
        """Build them as they are asked for; the texts depend on nothing else."""
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
    def _end(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of an `End`: for a session that ran out but was not swept, when and why it did."""
        columns = self._sessions.c
        reason = func.coalesce(columns.end_reason, self._runs_out_as)
        when = columns.expires_at if self._idle_until is None else earlier_of(columns.expires_at, self._idle_until)
        return (
            columns.id,
            columns.user_id,
            reason.label("reason"),
            type_coerce(func.coalesce(columns.ended_at, when), Instant()).label("ended_at"),
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

    # Reading

    @cached_property
    def ping(self) -> Select[Any]:
        """The clock."""
        return select(self.now.label("now"))

    @cached_property
    def ping_postgresql(self) -> Select[Any]:
        """The clock, and whether the server takes no writes."""
        return select(self.now.label("now"), func.current_setting("transaction_read_only").label("read_only"))

    @cached_property
    def get(self) -> Select[Any]:
        """The live session that a key names."""
        return select(*self.record).where(self._named, self.live)

    @cached_property
    def why(self) -> Select[*tuple[Any, ...]]:
        """What is known of a digest: is it the present one, does its session live, how did it end."""
        columns = self._sessions.c
        digest = bindparam("asked", type_=LargeBinary)
        return select(
            (columns.digest == digest).label("present"),
            self.live.label("live"),
            (self._in_grace(columns) if self._policy.rotation_grace else false()).label("in_grace"),
            func.coalesce(columns.end_reason, self._runs_out_as).label("reason"),
        ).where(or_(columns.digest == digest, columns.previous_digest == digest))

    @cached_property
    def end_of(self) -> Select[Any]:
        """When and why the session with an id ended, if it did."""
        return select(*self._end).where(self._sessions.c.id == bindparam("key_id", type_=Uuid()), not_(self.live))

    def list_live(self, *, of_user: bool, after: bool) -> Select[Any]:
        """A page of live sessions in order of id, of one user or of all, from the beginning or after an id."""
        columns = self._sessions.c
        page = select(*self.record).where(self._open, self.live).order_by(columns.id).limit(bindparam("limit"))
        if of_user:
            page = page.where(columns.user_id == bindparam("user", type_=Text()))
        return page.where(columns.id > bindparam("after", type_=Uuid())) if after else page

    @cached_property
    def count_live(self) -> Select[Any]:
        """How many sessions are live."""
        return select(func.count()).select_from(self._sessions).where(self._open, self.live)

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

    @cached_property
    def durable(self) -> Select[Any]:
        """PostgreSQL: let this transaction's commit wait for the standbys, also if it finds nothing left to write.

        Only a transaction that has written waits, and a row lock is written to the log. Having waited it knows that
        all that was committed before it is there too. This row, because it is always there; this lock, because it
        lets everybody else have theirs, an update too. On SQLite it locks nothing, and need not.
        """
        control = self._tables.control.c
        return select(control.id).where(control.id == 1).with_for_update(read=True, key_share=True)

    # Writing: every one but `create` and `create_ticket` is conditional on a row that is there

    @cached_property
    def create(self) -> Insert:
        """SQLite: insert a session; an id that is there already is an earlier attempt's success and stays as it is."""
        lifetime = literal(self._policy.lifetime, Span())
        return (
            sqlite_insert(self._sessions)
            .values(
                id=bindparam("new_id", type_=Uuid()),
                digest=bindparam("new_digest", type_=LargeBinary),
                user_id=bindparam("new_user_id", type_=Text()),
                metadata=json_value(bindparam("text", type_=Text())),
                created_at=self.now,
                last_activity=self.now,
                expires_at=type_coerce(self.now + lifetime, Instant()),
            )
            .on_conflict_do_nothing(index_elements=[self._sessions.c.id])
            .returning(*self.record)
        )

    @cached_property
    def created(self) -> Select[Any]:
        """The sessions that an earlier attempt to create inserted, live or not."""
        return select(*self.record).where(self._sessions.c.id.in_(_ids()))

    @cached_property
    def touch(self) -> Update:
        """SQLite: count activities of a live session and move its last activity forward."""
        columns = self._sessions.c
        return (
            update(self._sessions)
            .where(self.opens(bindparam("asked", type_=LargeBinary)), self.live)
            .values(
                request_count=columns.request_count + bindparam("activities", type_=BigInteger()),
                last_activity=later_of(columns.last_activity, self.now),
            )
            .returning(*self.record)
        )

    @cached_property
    def extend(self) -> Update:
        """Move the expiry of a live session forward, not past its cap."""
        columns = self._sessions.c
        reach: ColumnElement[datetime] = type_coerce(self.now + bindparam("by", type_=Span()), Instant())
        if (cap := self._policy.max_lifetime) is not None:
            reach = earlier_of(reach, type_coerce(columns.created_at + literal(cap, Span()), Instant()))
        return (
            update(self._sessions)
            .where(self._named, self.live)
            .values(expires_at=later_of(columns.expires_at, reach))
            .returning(columns.expires_at)
        )

    @cached_property
    def rotate(self) -> Update:
        """Replace the digest of a live session, if the old one is still its present one."""
        columns = self._sessions.c
        return (
            update(self._sessions)
            .where(columns.digest == bindparam("old", type_=LargeBinary), self.live)
            .values(
                digest=bindparam("successor", type_=LargeBinary),
                previous_digest=columns.digest,
                replaced_at=self.now,
            )
            .returning(*self.record)
        )

    @cached_property
    def set_metadata(self) -> Update:
        """Replace the metadata of a live session, if nobody else did since it was read."""
        columns = self._sessions.c
        return (
            update(self._sessions)
            .where(self._named, self.live, columns.metadata_version == bindparam("version", type_=BigInteger()))
            .values(
                metadata=json_value(bindparam("text", type_=Text())),
                metadata_version=columns.metadata_version + 1,
            )
            .returning(*self.record)
        )

    @cached_property
    def end(self) -> Update:
        """End a live session."""
        return (
            update(self._sessions)
            .where(self._named, self.live)
            .values(ended_at=self.now, end_reason=bindparam("reason", type_=Text()))
            .returning(*self._marked)
        )

    @cached_property
    def ended(self) -> Select[Any]:
        """The end of the session that a key names, to find out whether a lost answer was a success."""
        return select(*self._marked).where(self._named, self._sessions.c.ended_at.is_not(None))

    @cached_property
    def lock_user(self) -> Select[Any]:
        """PostgreSQL only: wait for the user's creates under way, and let later ones wait, until the commit."""
        return select(func.pg_advisory_xact_lock(user_lock(bindparam("user", type_=Text()))))

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
    def ended_among(self) -> Select[Any]:
        """Which of these sessions have ended."""
        columns = self._sessions.c
        return select(*self._marked).where(columns.id.in_(_ids()), columns.ended_at.is_not(None))

    @cached_property
    def erase_user(self) -> ReturningDelete[*tuple[Any, ...]]:
        """Delete every row of a user, locking them in order of id; their tickets go with them."""
        columns = self._sessions.c
        chosen = select(columns.id).where(columns.user_id == bindparam("user", type_=Text()))
        locked = chosen.order_by(columns.id).with_for_update().cte("locked").prefix_with("MATERIALIZED")
        return (
            delete(self._sessions).where(among(columns.id, select(locked.c.id).scalar_subquery())).returning(columns.id)
        )

    @cached_property
    def create_ticket(self) -> Insert:
        """Keep a ticket for the live session that a digest opens."""
        tickets = self._tables.tickets
        lifetime = type_coerce(self.now + bindparam("lifetime", type_=Span()), Instant())
        source = select(
            bindparam("ticket", type_=LargeBinary),
            self._sessions.c.id,
            bindparam("ticket_origin", type_=Text()),
            lifetime,
        ).where(self._sessions.c.digest == bindparam("asked", type_=LargeBinary), self.live)
        return (
            insert(tickets)
            .from_select(["digest", "session_id", "origin", "expires_at"], source)
            .returning(tickets.c.expires_at)
        )

    @cached_property
    def ticket(self) -> Select[Any]:
        """When a ticket expires, if it is there."""
        tickets = self._tables.tickets.c
        return select(tickets.expires_at).where(tickets.digest == bindparam("ticket", type_=LargeBinary))

    @cached_property
    def take_ticket(self) -> ReturningDelete[*tuple[Any, ...]]:
        """Use a ticket up, and tell whether its time had not passed."""
        tickets = self._tables.tickets.c
        return (
            delete(self._tables.tickets)
            .where(tickets.digest == bindparam("asked", type_=LargeBinary))
            .returning(
                tickets.session_id,
                tickets.origin,
                type_coerce(tickets.expires_at > self.now, Boolean()).label("fresh"),
            )
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
            .where(columns.id.in_(_ids()), columns.ended_at.is_not(None), columns.notified_at.is_(None))
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

    def _ago(self, name: str) -> ColumnElement[datetime]:
        return type_coerce(self._begun - bindparam(name, type_=Span()), Instant())


def user_lock(user_id: ColumnElement[Any]) -> ColumnElement[int]:
    """PostgreSQL only: the advisory lock of a user. Two users that share one by accident only wait for each other."""
    return func.hashtextextended(user_id, literal_column("7163402915"))


def _ids() -> Any:
    return bindparam("ids", expanding=True, type_=Uuid())
