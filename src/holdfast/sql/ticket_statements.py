"""The statements about one-time tickets. Nothing runs here."""

from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    Insert,
    LargeBinary,
    Select,
    Text,
    bindparam,
    delete,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.sql.dml import ReturningDelete

from holdfast.sql.tables import Instant, Span
from holdfast.sql.terms import Terms


class TicketStatements(Terms):
    """The statements for one schema under one policy."""

    @cached_property
    def create_ticket(self) -> Insert:
        """Keep a ticket for the live session that a digest opens.

        PostgreSQL locks the session's row first, as the ticket's foreign key does in any case: an erasure under way is
        waited for, and then there is no session, where the key alone would find that out when the ticket is there.
        """
        tickets = self._tables.tickets
        lifetime = type_coerce(self.now + bindparam("lifetime", type_=Span()), Instant())
        source = (
            select(
                bindparam("ticket", type_=LargeBinary),
                self._sessions.c.id,
                bindparam("ticket_origin", type_=Text()),
                lifetime,
            )
            .where(self._sessions.c.digest == bindparam("asked", type_=LargeBinary), self.live)
            .with_for_update(read=True, key_share=True)
        )
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
