"""A store's methods for the sweep and the end hook, which work in batches."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from holdfast.sessions.policy import HOOKS_EXPECTED_FOR
from holdfast.sessions.session import End, EndReason
from holdfast.sql.store_base import StoreBase, ends_of


class SweepPart(StoreBase):
    """The part of the sweep."""

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        statement, values = self._sql.untold, self._bind(limit=limit, older_than=older_than)
        return await self._read(lambda connection: ends_of(connection.execute(statement, values).all()))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        statement, values = self._sql.mark_expired, self._bind(limit=limit)
        return await self._end_many(lambda connection: ends_of(connection.execute(statement, values).all()))

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
