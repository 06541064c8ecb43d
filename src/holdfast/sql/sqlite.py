"""SQLite: what only it needs, each with its reason.

All writes of a process go through one thread and one connection, joined into transactions (`writer.py`). Reads have
a few connections of their own, which in WAL mode never wait for the writer.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.observer import Load
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import NewRecord, Record
from holdfast.sessions.store import Channel, Hint, Key, StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import SqliteAddress
from holdfast.sql.calls import Answer, Calls, Reading, Writing
from holdfast.sql.failures import Kind, NotDone, explained
from holdfast.sql.joiner import Batch, Joiner
from holdfast.sql.polling import poll
from holdfast.sql.presence import Noting
from holdfast.sql.sqlite_file import file_url
from holdfast.sql.sqlite_library import refuse_library
from holdfast.sql.store import SqlStore
from holdfast.sql.tables import tables
from holdfast.sql.writer import Write, Writer

_READERS: Final = 4
# Readers for what sockets depend on: whether sessions live, and what other processes ended.
_LOOKS: Final = 1

log = logging.getLogger("holdfast.sql")


class SqliteStore(SqlStore):
    """The store contract on a SQLite file."""

    def __init__(self, address: SqliteAddress, options: StoreOptions) -> None:
        """Prepare a store; touches no file yet."""
        super().__init__(tables(None), follows=options.follows)
        self._address = address
        self._options = options
        self._where = f"SQLite file {address}"
        self._thread: ThreadPoolExecutor | None = None

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`."""
        refuse_library(sqlite3.sqlite_version_info, strict=self._options.strict_sqlite)
        statements = self._prepare(policy, clock)
        if self._options.upgrade is False:
            # Before a connection that writes is opened: it would change the journal mode of another program's file.
            await schema.require(self._address, self._options)
        else:
            await schema.upgrade(self._address, self._options)
        deadline = self._options.deadline
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-writer")
        self._writer = Writer(self._address.path, statements, clock)
        self._writes = Joiner[Writer, Write, Any](
            self._send,
            [self._writer],
            where=self._where,
            deadline=deadline,
            repeatable=False,
            kind="write",
            observer=self.observer,
        )
        self._readers = _readers(self._address.path)
        self._calls, self._looks = (
            Calls(
                self._readers,
                connections=connections,
                where=self._where,
                deadline=deadline,
                kinds=(kind, "write"),
                observer=self.observer,
            )
            for connections, kind in ((_READERS, "read"), (_LOOKS, "look"))
        )
        try:
            with explained(self._where):
                await self._in_thread(self._writer.open)
                await self._calls.read(lambda connection: schema.refuse_unfit(connection, self._tables))
                await self._refuse_left()
                await self.look_for_clear_tokens()
                if not self._follows:
                    await self.ping()
        except BaseException:
            await self.close()
            raise
        self._be_present(self._where)

    async def close(self) -> None:
        """See `Store`."""
        if self._thread is None:
            return
        await self._be_gone()
        await self._writes.close()
        await self._calls.close()
        await self._looks.close()
        await self._readers.dispose()
        # Last, so that closing the last connection moves the log into the file.
        await self._in_thread(self._writer.close)
        self._thread.shutdown(wait=True)
        self._thread = None
        self._statements = None

    def load(self) -> Load | None:
        """See `SqlStore`. The writer's connection is one of them, and is in use while a batch is."""
        if self._thread is None:
            return None
        pool = cast("AsyncAdaptedQueuePool", self._readers.pool)
        writing = self._writes.in_flight
        return Load(self._writes.queued, writing, pool.size() + 1, pool.checkedout() + writing)

    async def ping(self) -> datetime:
        """See `Store`. While the last write failed on the disk, this one has to reach it."""
        statement, values = self._sql.ping, self._bind()

        def writing(connection: Connection, again: bool) -> datetime:
            if self._writer.failing:
                self._writer.probe(connection, again)
            return cast("datetime", connection.scalars(statement, values).one())

        return await self._write(writing)

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return cast("Record | None", await self._writes.call(key))

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        statement, created = self._sql.create, self._sql.created
        values = self._bind(
            new_id=record.id, new_digest=record.digest, new_user_id=record.user_id, text=record.metadata
        )

        def writing(connection: Connection, _: bool) -> Record:
            row = connection.execute(statement, values).one_or_none()
            return Record._make(row or connection.execute(created, self._bind(ids=[record.id])).one())

        return await self._write(writing)

    @property
    def channel(self) -> Channel:
        """See `Store`. SQLite tells nobody anything."""
        return "polling"

    async def listen(self, hint: Hint) -> None:
        """See `Store`. Other processes' ends are found in the index of ended sessions, see `polling.py`."""
        await poll(hint, self._just_ended)

    async def _just_ended(self, window: timedelta, limit: int) -> Sequence[UUID]:
        statement, values = self._sql.just_ended, self._bind(window=window, limit=limit)
        return await self._look(lambda connection: connection.scalars(statement, values).all())

    async def _read(self, reading: Reading[Answer]) -> Answer:
        """See `Store`. An answer counts only while the file is still the one in place."""
        return await self._in_place(self._calls.read(reading))

    async def _look(self, reading: Reading[Answer]) -> Answer:
        return await self._in_place(self._looks.read(reading))

    async def _look_settling(self, ids: Sequence[UUID], reading: Reading[Answer]) -> tuple[Sequence[UUID], Answer]:
        """See `SqlStore`. In the writer's turn: BEGIN IMMEDIATE keeps whoever would prolong them waiting."""
        return ids, await self._write(lambda connection, _: reading(connection))

    async def _in_place(self, answering: Awaitable[Answer]) -> Answer:
        try:
            answer = await answering
        except Exception:
            self._writer.refuse_replaced()
            raise
        self._writer.refuse_replaced()
        return answer

    async def _write(self, writing: Writing[Answer]) -> Answer:
        return cast("Answer", await self._writes.call(writing))

    async def _note(self, noting: Noting) -> None:
        await self._in_thread(self._writer.note, noting)

    def _lock_user(self, connection: Connection, user_id: str) -> None:
        """Nothing: BEGIN IMMEDIATE keeps every other writer waiting already."""

    async def _send(self, writer: Writer, batch: Batch[Write, Any]) -> Sequence[Any]:
        return await self._in_thread(writer.write, batch)

    async def _in_thread(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        if self._thread is None:
            raise NotDone(Kind.FULL, StoreUnavailable(f"{self._where} is closed"))
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _readers(path: Path) -> AsyncEngine:
    readers = create_async_engine(
        file_url("sqlite+aiosqlite", path),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS + _LOOKS,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": 0.5},
    )

    @event.listens_for(readers.sync_engine, "connect")
    def prepare(driver: Any, _: object) -> None:
        cursor = driver.cursor()
        # A reader that closes last must not write a checkpoint either: that is the writer's, under its lock.
        for pragma in ("query_only = ON", "mmap_size = 0", "wal_autocheckpoint = 0"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return readers
