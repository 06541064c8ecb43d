"""A store's methods about one-time tickets."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from holdfast.sessions.policy import TICKET_LIFETIME
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.store_base import StoreBase


class TicketsPart(StoreBase):
    """The part about tickets."""

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
