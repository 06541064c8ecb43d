"""What the two stores share: each method of the contract as one reading or one writing.

Readings and writings are plain synchronous functions of a SQLAlchemy connection, so that the same one runs on
PostgreSQL through the asynchronous driver and on SQLite in the writer's thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, inspect

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import AuthorityMoved, InvalidArgument, StoreRefused, StoreUnavailable, TooManySessions
from holdfast.sessions.observer import NOBODY, Load, Observer
from holdfast.sessions.policy import HOOKS_EXPECTED_FOR, MAX_CAP, TICKET_LIFETIME, Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistics
from holdfast.sessions.store import Held, Key
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.calls import Answer, Reading, Writing
from holdfast.sql.carried import Carried, take_in
from holdfast.sql.presence import Noting, Presence
from holdfast.sql.statements import Statements
from holdfast.sql.statistics import HOURS, TOP, StatisticsStatements
from holdfast.sql.tables import Tables


class SqlStore(ABC):
    """The store contract on SQL, but for how a reading, a writing and the two joined calls reach the database."""

    def __init__(self, tables: Tables, *, follows: bool) -> None:
        """Keep the tables; the statements come with the policy, when it is opened."""
        self._follows = follows
        self._tables = tables
        self._statements: Statements | None = None
        self._clock = Clock()
        self._policy = Policy()
        self.observer: Observer = NOBODY
        """Told what the store does, from the next `open` on."""
        self.has_clear_tokens = False
        """Whether imported sessions live here, whose tokens have another form: as of the opening or the last sweep."""
        self._presence: Presence | None = None

    @abstractmethod
    def load(self) -> Load | None:
        """What the store has in hand; `None` while it is not open."""

    @abstractmethod
    async def _read(self, reading: Reading[Answer]) -> Answer: ...

    @abstractmethod
    async def _write(self, writing: Writing[Answer]) -> Answer: ...

    @abstractmethod
    async def _look(self, reading: Reading[Answer]) -> Answer:
        """As `_read`, on a connection that no other call takes: sockets must not wait for a slow listing to close."""

    @abstractmethod
    async def _note(self, noting: Noting) -> None:
        """Do something in one transaction, whoever holds the authority: it is no write of a client's."""

    def _be_present(self, where: str) -> None:
        """Note from now on that this process uses the store."""
        self._presence = Presence(self._tables, follows=self._follows, where=where, do=self._note)
        self._presence.start()

    async def _be_gone(self) -> None:
        """Take that note back. Safe to repeat."""
        presence, self._presence = self._presence, None
        if presence is not None:
            await presence.stop()

    @abstractmethod
    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""

    @abstractmethod
    async def touch(self, digest: TokenDigest) -> Record | None:
        """See `Store`."""

    @property
    def _sql(self) -> Statements:
        if self._statements is None:
            raise StoreUnavailable("the store is not open")
        return self._statements

    def _prepare(self, policy: Policy, clock: Clock) -> Statements:
        self._clock = clock
        self._policy = policy
        self._statements = Statements(self._tables, policy)
        return self._statements

    def _bind(self, key: Key | None = None, **values: Any) -> dict[str, Any]:
        """The values of a statement: the offset always, and a key as the two names every key has."""
        values["offset"] = self._clock.offset
        if key is not None:
            values["key_id"], values["key_digest"] = (key, None) if isinstance(key, UUID) else (None, key)
        return values

    # Reading

    async def ping(self) -> datetime:
        """See `Store`."""
        statement = self._sql.ping
        values = self._bind()
        return await self._read(lambda connection: connection.scalars(statement, values).one())

    async def authority(self) -> Held:
        """See `MovableStore`. On a connection that no slow call takes: all calls wait for it while a move decides."""
        statement = self._sql.authority
        row = await self._look(lambda connection: connection.execute(statement).one_or_none())
        if row is None:
            raise StoreRefused("the store cannot be used: its control row is missing; restore a backup")
        return Held(row.authority, row.epoch)

    async def _refuse_left(self) -> None:
        """Raise where another store holds the authority, unless both are known to this process.

        During a move it is `AuthorityMoved`: this one may be entered yet. Without one nobody will, and it is
        `StoreRefused`.
        """
        if not self._follows and (await self.authority()).authority == "there":
            if await self._look(self._is_moved):
                raise AuthorityMoved(
                    "another store holds the authority, and a move between the two is under way; open this one when "
                    "the move has come to it, or name both stores to follow the move: the SQLite file with "
                    "HOLDFAST_SQLITE_PATH and PostgreSQL with DATABASE_URL"
                )
            raise StoreRefused(
                "the sessions were moved to another store, which holds the authority; name both stores, the SQLite "
                "file with HOLDFAST_SQLITE_PATH and PostgreSQL with DATABASE_URL, or only the one that holds it"
            )

    def _is_moved(self, connection: Connection) -> bool:
        """Whether a move is under way, which has a table of its own in both stores."""
        return inspect(connection).has_table("holdfast_move", schema=self._tables.metadata.schema)

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        statement, values = self._sql.get, self._bind(key)
        return await self._read(lambda connection: _record(connection.execute(statement, values).one_or_none()))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        statement, values = self._sql.why, self._bind(asked=digest)
        row = await self._read(lambda connection: connection.execute(statement, values).first())
        if row is None:
            return "unknown"
        if row.live and (row.present or row.in_grace):
            return None
        reason: WhyEnded = row.reason
        return reason if row.present else "replaced"

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        statement, values = self._sql.end_of, self._bind(id)
        ends = await self._read(lambda connection: _ends(connection.execute(statement, values).all()))
        return ends[0] if ends else None

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        statement, values = self._sql.standing, self._bind(ids=list(ids))
        rows = await self._look(lambda connection: connection.execute(statement, values).all())
        known = [row for row in rows if row.id is not None]
        live = [(row.id, row.due) for row in known if row.live]
        return Standing(rows[0].now, live, _ends([row for row in known if not row.live]))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        statement, values = self._sql.replayed, self._bind(asked=digest)
        # One at a time and for nobody who waits, so it takes no connection from those who do.
        return await self._look(lambda connection: connection.scalars(statement, values).first())

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`."""
        statement = self._sql.list_live(of_user=user_id is not None, after=after is not None)
        values = self._bind(limit=limit)
        if user_id is not None:
            values["user"] = user_id
        if after is not None:
            values["after"] = after
        rows = await self._read(lambda connection: connection.execute(statement, values).all())
        return [Record._make(row) for row in rows]

    async def count_live(self) -> int:
        """See `Store`."""
        statement, values = self._sql.count_live, self._bind()
        return await self._read(lambda connection: connection.scalars(statement, values).one())

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`. Raises `InvalidArgument` for numbers out of range."""
        if not (1 <= hours <= HOURS and 1 <= top <= TOP):
            raise InvalidArgument(f"hours is a number from 1 to {HOURS}, and top one from 1 to {TOP}")
        statements, values = StatisticsStatements(self._tables, self._sql), self._bind()
        return await self._read(lambda connection: statements.ask(connection, values, hours, top))

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        statement, values = self._sql.untold, self._bind(limit=limit, older_than=older_than)
        return await self._read(lambda connection: _ends(connection.execute(statement, values).all()))

    # Writing

    async def _write_durably(self, writing: Writing[Answer]) -> Answer:
        """As `_write`, but a repeat that finds its work done, or remembers it, waits for a standby all the same.

        A commit whose wait for a standby was cut short is committed here and not there. The repeat then finds nothing
        left to do, and would be acknowledged on the word of a server that may be gone in a moment.
        """
        durable = self._sql.durable

        def durably(connection: Connection, again: bool) -> Answer:
            if again:
                connection.scalars(durable).one()
            return writing(connection, again)

        return await self._write(durably)

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        cap, evicts = self._policy.max_sessions or MAX_CAP, self._policy.at_cap == "evict"
        user: dict[str, Any] = {"user": record.user_id}
        evicted: dict[str, End] = {}

        def writing(connection: Connection, again: bool) -> Created:
            self._lock_user(connection, str(record.user_id))
            row = connection.execute(self._sql.created, self._bind(ids=[record.id])).one_or_none()
            if row is None:
                evicted.clear()
                if evicts:
                    ended = connection.execute(self._sql.evict, self._bind(**user, room=cap - 1)).all()
                    evicted.update((end.id, end) for end in _ends(ended))
                elif (live := connection.scalars(self._sql.count_user, self._bind(**user)).one()) >= cap:
                    raise TooManySessions(f"the user has {live} live sessions, and the cap is {cap}")
                values = self._bind(**user, new_id=record.id, new_digest=record.digest, text=record.metadata)
                row = connection.execute(self._sql.create_locked, values).one()
            # Found there, it is an earlier attempt of this call, and so is what that one evicted.
            return Created(Record._make(row), list(evicted.values()))

        return await self._write_durably(writing)

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        statement, values = self._sql.extend, self._bind(key, by=by)
        return await self._write_durably(lambda connection, _: connection.scalars(statement, values).one_or_none())

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        statement, found = self._sql.rotate, self._sql.get
        values = self._bind(old=digest, successor=successor)

        def writing(connection: Connection, _: bool) -> Record | None:
            row = connection.execute(statement, values).one_or_none()
            # A successor that is there already is this very call's earlier attempt: nobody else knows it.
            return _record(row or connection.execute(found, self._bind(successor)).one_or_none())

        return await self._write_durably(writing)

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        statement, values = self._sql.set_metadata, self._bind(key, version=version, text=metadata)
        return await self._write_durably(
            lambda connection, _: _record(connection.execute(statement, values).one_or_none())
        )

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        statement, ended = self._sql.end, self._sql.ended

        def writing(connection: Connection, again: bool) -> End | None:
            row = connection.execute(statement, self._bind(key, reason=reason)).one_or_none()
            if row is None and again:
                row = connection.execute(ended, self._bind(key)).one_or_none()
            ends = _ends([] if row is None else [row])
            return ends[0] if ends else None

        return await self._write_durably(writing)

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        statement = self._sql.end_user(keep=keep is not None)
        values = self._bind(user=user_id, reason=reason)
        if keep is not None:
            values["keep"] = keep

        def ending(connection: Connection) -> list[End]:
            self._lock_user(connection, user_id)
            return _ends(connection.execute(statement, values).all())

        return await self._end_many(ending)

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        statement, imported, values = self._sql.erase_user, self._sql.erase_imported, self._bind(user=user_id)
        most = 0

        def writing(connection: Connection, again: bool) -> int:
            nonlocal most
            self._lock_user(connection, user_id)
            count = len(connection.execute(statement, values).all())
            connection.execute(imported, {"user": user_id})
            most = max(count, most) if again else count
            return most

        return await self._write_durably(writing)

    # What an application's own table brought

    async def look_for_clear_tokens(self) -> None:
        """Find out whether imported sessions live here, whose tokens have another form than ours."""
        statement = self._sql.any_clear_token
        self.has_clear_tokens = await self._look(lambda connection: bool(connection.scalar(statement)))

    async def carry(self, rows: Sequence[Carried]) -> int:
        """Take in rows of an application's own table, all or none; how many were new. Safe to repeat.

        A row that was taken in before is passed over, whatever became of its session.
        """

        def writing(connection: Connection, _: bool) -> int:
            return take_in(connection, self._sql, rows)

        return await self._write_durably(writing)

    @abstractmethod
    def _lock_user(self, connection: Connection, user_id: str) -> None:
        """Wait for the user's creates under way, and keep later ones waiting until the transaction ends."""

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        statement, ticket = self._sql.create_ticket, self._sql.ticket
        values = self._bind(ticket=digest, ticket_origin=origin, lifetime=TICKET_LIFETIME, asked=session)

        def writing(connection: Connection, again: bool) -> datetime | None:
            kept: datetime | None = None
            if again:
                kept = connection.scalars(ticket, self._bind(ticket=digest)).one_or_none()
            if kept is None:
                kept = connection.scalars(statement, values).one_or_none()
            return kept

        return await self._write_durably(writing)

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        statement, values = self._sql.take_ticket, self._bind(asked=digest)
        taken: list[Row[Any]] = []

        def writing(connection: Connection, again: bool) -> UUID | None:
            rows = connection.execute(statement, values).all() or (taken if again else [])
            taken[:] = rows
            return next((row.session_id for row in rows if row.fresh and row.origin == origin), None)

        return await self._write_durably(writing)

    # The sweep

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        statement, values = self._sql.mark_expired, self._bind(limit=limit)
        return await self._end_many(lambda connection: _ends(connection.execute(statement, values).all()))

    async def _end_many(self, ending: Reading[list[End]]) -> list[End]:
        """What a writing ends, and what an attempt of it did end whose answer was lost: that is its answer too."""
        earlier: set[UUID] = set()

        def writing(connection: Connection, again: bool) -> list[End]:
            ends = ending(connection)
            lost = earlier - {UUID(end.id) for end in ends}
            if again and lost:
                ends += _ends(connection.execute(self._sql.ended_among, self._bind(ids=list(lost))).all())
            earlier.update(UUID(end.id) for end in ends)
            return ends

        return await self._write_durably(writing)

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        statement, values = self._sql.told, self._bind(ids=list(ids))
        await self._write_durably(lambda connection, _: connection.execute(statement, values).close())

    async def expect_hooks(self) -> None:
        """See `Store`."""
        statement, values = self._sql.expect_hooks, self._bind()
        await self._write_durably(lambda connection, _: connection.execute(statement, values).close())

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        sessions, there = self._sql.delete_ended, self._sql.created
        await self._delete_tickets(limit)
        values = self._bind(limit=limit, older_than=older_than, reasons=list(reasons), hooks_lease=HOOKS_EXPECTED_FOR)

        deleted: set[UUID] = set()

        def writing(connection: Connection, again: bool) -> int:
            found = set(connection.scalars(sessions, values).all())
            if again and (lost := deleted - found):
                # What an attempt of unknown outcome did delete belongs to this call's answer too.
                found |= lost.difference(connection.scalars(there, self._bind(ids=list(lost))).all())
            deleted.update(found)
            return len(found)

        return await self._write_durably(writing)

    async def _delete_tickets(self, limit: int) -> None:
        # In batches and transactions of their own: a heap of old tickets must not keep the sessions from being deleted.
        statement, values = self._sql.delete_tickets, self._bind(limit=limit)
        while await self._write(lambda connection, _: len(connection.execute(statement, values).all())) == limit:
            pass


def _record(row: Row[Any] | None) -> Record | None:
    return None if row is None else Record._make(row)


def _ends(rows: Sequence[Row[Any]]) -> list[End]:
    return [End(str(row.id), row.user_id, row.reason, row.ended_at) for row in rows]
