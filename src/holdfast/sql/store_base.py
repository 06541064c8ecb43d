"""What every method of a store on SQL needs: its statements, a way to the database, and a note that it is there.

Readings and writings are plain synchronous functions of a SQLAlchemy connection, so that the same one runs on
PostgreSQL through the asynchronous driver and on SQLite in the writer's thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.observer import NOBODY, Load, Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import End, Record
from holdfast.sessions.store import Key
from holdfast.sql.calls import Answer, Reading, Writing
from holdfast.sql.presence import Noting, Presence
from holdfast.sql.statements import Statements
from holdfast.sql.tables import Tables


class StoreBase(ABC):
    """A store on SQL without the methods of the contract, which are in the parts that derive from it."""

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
    async def _read(self, reading: Reading[Answer]) -> Answer:
        """The answer of a reading. Raises `StoreUnavailable` at the deadline."""

    @abstractmethod
    async def _write(self, writing: Writing[Answer]) -> Answer:
        """The answer of a committed writing. Raises `StoreUnavailable` when not done, else `OutcomeUnknown`."""

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

    async def _end_many(self, ending: Reading[list[End]]) -> list[End]:
        """What a writing ends, and what an attempt of it did end whose answer was lost: that is its answer too."""
        earlier: set[UUID] = set()

        def writing(connection: Connection, again: bool) -> list[End]:
            ends = ending(connection)
            lost = earlier - {UUID(end.id) for end in ends}
            if again and lost:
                ends += ends_of(connection.execute(self._sql.ended_among, self._bind(ids=list(lost))).all())
            earlier.update(UUID(end.id) for end in ends)
            return ends

        return await self._write_durably(writing)


def record_of(row: Row[Any] | None) -> Record | None:
    """The session in a row, if there is one."""
    return None if row is None else Record._make(row)


def ends_of(rows: Sequence[Row[Any]]) -> list[End]:
    """The ends in rows that have the columns of one."""
    return [End(str(row.id), row.user_id, row.reason, row.ended_at) for row in rows]
