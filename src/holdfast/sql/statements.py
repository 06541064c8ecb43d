"""Every statement of SQL: a name and a sentence each. Nothing runs here.

They are the same for both databases; where the two must differ, a function in `functions.py` says how.
`live` is one text for all of them, and time is the database's clock plus `:offset`, which only tests set.
A key is a digest or an id: both are bound, one of them to NULL, which equals nothing.
"""

from datetime import datetime, timedelta
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
    bindparam,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.sql.functions import among, earlier_of, json_value, later_of
from holdfast.sql.import_statements import ImportStatements
from holdfast.sql.sweep_statements import SweepStatements
from holdfast.sql.tables import Instant, Span
from holdfast.sql.terms import with_id_among
from holdfast.sql.ticket_statements import TicketStatements
from holdfast.sql.user_statements import UserStatements


class Statements(UserStatements, TicketStatements, SweepStatements, ImportStatements):
    """The statements for one schema under one policy: those about one session here, the others by their noun."""

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

    @cached_property
    def standing(self) -> Select[Any]:
        """Of many sessions: which live and until when, and how the others ended. At least one row, with the time.

        Of one that ended it says whether that is marked, as opposed to read off the clock.
        """
        begun = select(self.now.label("now")).subquery("begun")
        id, user_id, reason, ended_at = self._end
        return select(
            begun.c.now,
            id,
            user_id,
            type_coerce(self.live, Boolean()).label("live"),
            self.due.label("due"),
            reason,
            ended_at,
            self._sessions.c.ended_at.is_not(None).label("marked"),
        ).join_from(begun, self._sessions, with_id_among(self._sessions.c.id), isouter=True)

    @cached_property
    def replayed(self) -> Select[Any]:
        """The live session whose direct predecessor a digest was, once its grace is over and the successor was used."""
        columns = self._sessions.c
        past = type_coerce(columns.replaced_at + literal(self._policy.rotation_grace, Span()), Instant()) <= self.now
        return select(columns.id).where(
            columns.previous_digest == bindparam("asked", type_=LargeBinary),
            columns.last_activity > columns.replaced_at,
            past,
            self.live,
        )

    @cached_property
    def just_ended(self) -> Select[Any]:
        """SQLite: some of the sessions whose end was noted within the last `:window`."""
        columns = self._sessions.c
        return select(columns.id).where(columns.ended_at > self._ago("window")).limit(bindparam("limit"))

    @cached_property
    def tell(self) -> Select[Any]:
        """PostgreSQL: wake the servers that listen, once the transaction is committed."""
        return select(func.pg_notify(bindparam("channel", type_=Text()), bindparam("hint", type_=Text())))

    @cached_property
    def count_live(self) -> Select[Any]:
        """How many sessions are live."""
        return select(func.count()).select_from(self._sessions).where(self._open, self.live)

    @cached_property
    def authority(self) -> Select[Any]:
        """Whether this store accepts writes."""
        control = self._tables.control.c
        return select(control.authority, control.epoch).where(control.id == 1)

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
        return select(*self.record).where(with_id_among(self._sessions.c.id))

    def touch(self, *, by_id: bool) -> Select[Any]:
        """SQLite: where the row of a live session is, and the row as one more activity leaves it, but for the count.

        The activity is later than the rotation before it, though the clock has steps in which both may fall: `replayed`
        tells by that whether the successor was used.
        """
        columns = self._sessions.c
        digest = self.opens(bindparam("asked", type_=LargeBinary))
        after = type_coerce(columns.replaced_at + literal(timedelta(microseconds=1), Span()), Instant())
        moved_to = later_of(later_of(columns.last_activity, self.now), func.coalesce(after, columns.last_activity))
        record = (moved_to if column is columns.last_activity else column for column in self.record)
        return select(self._place, *record).where(
            columns.id == bindparam("asked", type_=Uuid()) if by_id else digest, self.live
        )

    @cached_property
    def touched(self) -> Update:
        """SQLite: count activities of a session that `touch` found live in the same transaction, and move it forward.

        Nobody else writes in between, so it lives still: the condition costs nothing, and keeps an end final whatever
        becomes of that.
        """
        columns = self._sessions.c
        return (
            update(self._sessions)
            .where(self._place == bindparam("place", type_=BigInteger()), columns.ended_at.is_(None))
            .values(
                request_count=columns.request_count + bindparam("activities", type_=BigInteger()),
                last_activity=bindparam("moved_to", type_=Instant()),
            )
        )

    @property
    def _place(self) -> ColumnElement[int]:
        """SQLite's own number of a session's row, by which it is found without an index."""
        return literal_column("sessions.rowid", BigInteger())

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
                clear_token=false(),
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
    def settle(self) -> Update:
        """PostgreSQL: write those of some sessions that ran out anew, as they are; pass over rows that others hold.

        Whoever found one of them live a moment before, and has yet to write, decides again after that. Behind a lock
        alone it would wait and then write as it had decided.
        """
        columns = self._sessions.c
        batch = (
            select(columns.id)
            .where(with_id_among(columns.id), columns.ended_at.is_(None))
            .with_for_update(skip_locked=True)
            .cte("batch")
            .prefix_with("MATERIALIZED")
        )
        return (
            update(self._sessions)
            .where(among(columns.id, select(batch.c.id).scalar_subquery()), columns.ended_at.is_(None), not_(self.live))
            .values(request_count=columns.request_count)
            .returning(columns.id)
        )

    @cached_property
    def ended(self) -> Select[Any]:
        """The end of the session that a key names, to find out whether a lost answer was a success."""
        return select(*self._marked).where(self._named, self._sessions.c.ended_at.is_not(None))

    @cached_property
    def ended_among(self) -> Select[Any]:
        """Which of these sessions have ended."""
        columns = self._sessions.c
        return select(*self._marked).where(with_id_among(columns.id), columns.ended_at.is_not(None))
