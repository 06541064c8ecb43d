"""What the two stores share: each method of the contract as one reading or one writing.

Those about one session are here, the others in a part for their noun, as the statements are.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from holdfast.sessions.errors import HoldfastError, StoreRefused
from holdfast.sessions.session import End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistics, refuse_extent
from holdfast.sessions.store import Held, Key
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.authority import is_moved, left
from holdfast.sql.calls import Answer, Reading
from holdfast.sql.carried import Carried, take_in
from holdfast.sql.statistics import StatisticsStatements
from holdfast.sql.store_base import ends_of, record_of
from holdfast.sql.store_sweep import SweepPart
from holdfast.sql.store_tickets import TicketsPart
from holdfast.sql.store_users import UsersPart

# How long after its time a session that somebody may be prolonging is left open. A write takes less than that, or its
# deadline has passed; and the socket of a session whose row is locked for longer closes within ten seconds (promise 6).
_DOUBTED_FOR: Final = timedelta(seconds=8)
# What asking once whether somebody is takes at most: the others that were asked about wait for it.
_SETTLING_SECONDS: Final = 0.5


class SqlStore(UsersPart, TicketsPart, SweepPart):
    """The store contract on SQL, but for how a reading, a writing and the two joined calls reach the database."""

    @abstractmethod
    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""

    @abstractmethod
    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""

    @abstractmethod
    async def _look_settling(self, ids: Sequence[UUID], reading: Reading[Answer]) -> tuple[Collection[UUID], Answer]:
        """As `_look`, and which of some sessions nobody can prolong any more, if that reading finds that they ran out.

        Waits for nobody's lock for long.
        """

    # Reading

    async def ping(self) -> datetime:
        """See `Store`."""
        statement = self._sql.ping
        values = self._bind()
        return await self._read(lambda connection: connection.scalars(statement, values).one())

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        statement, values = self._sql.get, self._bind(key)
        return await self._read(lambda connection: record_of(connection.execute(statement, values).one_or_none()))

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
        ends = await self._read(lambda connection: ends_of(connection.execute(statement, values).all()))
        return ends[0] if ends else None

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        rows = await self._look(self._standing_of(ids))
        now = rows[0].now
        known = [row for row in rows if row.id is not None]
        # Somebody may have found it live before its time was over, and not have committed yet what prolongs it.
        doubted = {row.id for row in known if not (row.live or row.marked) and now - row.due < _DOUBTED_FOR}
        unsure: set[UUID] = set()
        if doubted:
            settled, unsure = await self._settled(doubted)
            known = [row for row in known if row.id not in doubted] + settled
        live = [(row.id, row.due) for row in known if row.live]
        return Standing(now, live, ends_of([row for row in known if not row.live]), unsure)

    def _standing_of(self, ids: Collection[UUID]) -> Reading[Sequence[Row[Any]]]:
        statement, values = self._sql.standing, self._bind(ids=list(ids))
        return lambda connection: connection.execute(statement, values).all()

    async def _settled(self, doubted: set[UUID]) -> tuple[list[Row[Any]], set[UUID]]:
        """How those stand that ran out just now, once nobody can prolong them any more, and of which that is open."""
        try:
            async with asyncio.timeout(_SETTLING_SECONDS):
                settled, rows = await self._look_settling(list(doubted), self._standing_of(doubted))
        except (HoldfastError, TimeoutError):
            # Also where a move decides, or the disk is full: nothing is known of these, and much of the others.
            return [], doubted
        sure = [row for row in rows if row.id in settled or row.live or row.marked]
        return sure, {row.id for row in rows if row.id is not None} - {row.id for row in sure}

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        statement, values = self._sql.replayed, self._bind(asked=digest)
        # One at a time and for nobody who waits, so it takes no connection from those who do.
        return await self._look(lambda connection: connection.scalars(statement, values).first())

    async def count_live(self) -> int:
        """See `Store`."""
        statement, values = self._sql.count_live, self._bind()
        return await self._read(lambda connection: connection.scalars(statement, values).one())

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`."""
        refuse_extent(hours, top)
        statements, values = StatisticsStatements(self._tables, self._sql), self._bind()
        return await self._read(lambda connection: statements.ask(connection, values, hours, top))

    # Writing

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
            return record_of(row or connection.execute(found, self._bind(successor)).one_or_none())

        return await self._write_durably(writing)

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        statement, values = self._sql.set_metadata, self._bind(key, version=version, text=metadata)
        return await self._write_durably(
            lambda connection, _: record_of(connection.execute(statement, values).one_or_none())
        )

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        statement, ended = self._sql.end, self._sql.ended

        def writing(connection: Connection, again: bool) -> End | None:
            row = connection.execute(statement, self._bind(key, reason=reason)).one_or_none()
            if row is None and again:
                row = connection.execute(ended, self._bind(key)).one_or_none()
            ends = ends_of([] if row is None else [row])
            return ends[0] if ends else None

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

    # Who accepts writes

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
            raise left(moving=await self._look(lambda connection: is_moved(connection, self._tables)))
