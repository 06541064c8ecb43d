"""That a process uses a store is written into it, so that whoever moves the store knows who has to follow.

Not a write of a client's: it is made whoever holds the authority, and nobody waits for it. A process that was killed
stays until its note is too old to count.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, Uuid, bindparam, delete, literal, select, type_coerce
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from holdfast.sessions.background import Background
from holdfast.sessions.errors import HoldfastError
from holdfast.sql.failures import Kind, NotDone, kind_of
from holdfast.sql.functions import clock
from holdfast.sql.tables import Instant, Span, Tables

SEEN_FOR: Final = timedelta(seconds=35)
"""A process whose last note is older than this is taken for gone."""
_EVERY_SECONDS: Final = 10.0
# A command that is over by then was never there: only who stays has to follow.
_FIRST_SECONDS: Final = 1.0
_KEPT_FOR: Final = timedelta(hours=1)

Noting = Callable[[Connection], None]
"""What is done with a connection within one transaction."""

log = logging.getLogger("holdfast.sql")


class Presence:
    """One open store's note of itself in its database, renewed until it closes."""

    def __init__(self, tables: Tables, *, follows: bool, where: str, do: Callable[[Noting], Awaitable[None]]) -> None:
        """Prepare it.

        Args:
            tables: the tables of the store.
            follows: whether this process knows the other store of a move too.
            where: the store's name for messages.
            do: does something in one transaction in the store, whoever holds the authority.
        """
        self._processes = tables.processes
        self._id = uuid4()
        self._follows = follows
        self._where = where
        self._do = do
        self._noted = False
        self._noting = Background(self._run, "holdfast-presence")

    def start(self) -> None:
        """Begin in the running loop."""
        self._noting.start()

    async def stop(self) -> None:
        """End, and take the note back if the store lets us. Safe to repeat."""
        await self._noting.stop()
        noted, self._noted = self._noted, False
        if noted:
            with suppress(Exception):
                async with asyncio.timeout(_FIRST_SECONDS):
                    await self._do(self._forget)

    async def _run(self) -> None:
        wait = _FIRST_SECONDS
        while True:
            await asyncio.sleep(wait)
            wait = _EVERY_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - spreads servers out, guards nothing
            try:
                self._noted = True
                await self._do(self._note)
            except (HoldfastError, NotDone, OSError) as error:
                if kind_of(error) is Kind.REFUSED or kind_of(error.__cause__ or error) is Kind.REFUSED:
                    log.warning("%s does not let this process note that it is here: %s", self._where, error)
                    return
                log.debug("%s could not be told that this process is here: %s", self._where, type(error).__name__)
            except Exception as error:
                if kind_of(error) is Kind.BUG:
                    log.exception("that this process is here could not be noted")
                    return
                log.debug("%s could not be told that this process is here: %s", self._where, type(error).__name__)

    def _note(self, connection: Connection) -> None:
        """Say that this process is here now, and drop the notes of those that are long gone."""
        table = self._processes
        insert = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
        made = insert(table).values(
            id=self._id, host=socket.gethostname(), pid=os.getpid(), follows=self._follows, seen_at=clock()
        )
        renewed = made.on_conflict_do_update(index_elements=["id"], set_={"seen_at": made.excluded.seen_at})
        connection.execute(renewed).close()
        connection.execute(delete(table).where(table.c.seen_at < _ago(_KEPT_FOR))).close()

    def _forget(self, connection: Connection) -> None:
        """Take this process's note away."""
        table = self._processes
        mine = table.c.id == bindparam("mine", self._id, type_=Uuid())
        connection.execute(delete(table).where(mine)).close()


def recent(tables: Tables) -> "Select[tuple[str, int, bool, datetime]]":
    """The notes that still count: host, process id, whether it follows, and when it was last seen."""
    columns = tables.processes.c
    return (
        select(columns.host, columns.pid, columns.follows, columns.seen_at)
        .where(columns.seen_at >= _ago(SEEN_FOR))
        .order_by(columns.host, columns.pid)
    )


def _ago(span: timedelta) -> ColumnElement[datetime]:
    """So long ago by the database's clock, which no test moves."""
    return type_coerce(clock() - literal(span, Span()), Instant())
