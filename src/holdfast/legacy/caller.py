"""The way from the loop to a legacy file: every call goes through the one writer of the process, in its thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, tzinfo
from typing import Any, TypeVar, cast

from holdfast.legacy.reading import Reader
from holdfast.legacy.sessions import LegacySessions
from holdfast.legacy.writer import LegacyWriter, Reading
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.observer import Load, Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Held, StoreOptions
from holdfast.sql.address import SqliteAddress
from holdfast.sql.authority import left
from holdfast.sql.failures import Kind, NotDone, explained
from holdfast.sql.joiner import Batch, Joiner
from holdfast.sql.presence import Noting, Presence
from holdfast.sql.sqlite_file import refuse_strange
from holdfast.sql.sqlite_library import refuse_library
from holdfast.sql.tables import tables
from holdfast.sql.writer import Write

Answer = TypeVar("Answer")


class LegacyCaller:
    """What opens and closes a store, and takes its calls to the file."""

    def __init__(self, address: SqliteAddress, options: StoreOptions, zone: tzinfo) -> None:
        """Prepare a store; touches no file yet. The zone is the one whose local times the old application writes."""
        self._address = address
        self._options = options
        self._zone = zone
        self._where = f"legacy SQLite file {address}"
        self._thread: ThreadPoolExecutor | None = None
        self._presence: Presence | None = None
        self.observer = Observer()

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`. Makes Holdfast's own tables beside the legacy one, which it leaves as it is."""
        refuse_strange(self._address.path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-writer")
        self._writer = LegacyWriter(self._address.path, Reader(self._zone), policy, clock)
        self._writes = Joiner[LegacyWriter, Write, Any](
            self._send,
            [self._writer],
            where=self._where,
            deadline=self._options.deadline,
            repeatable=False,
            kind="write",
            observer=self.observer,
        )
        try:
            with explained(self._where):
                if await self._in_thread(self._writer.connect) == "wal":
                    refuse_library(sqlite3.sqlite_version_info, strict=self._options.strict_sqlite)
                await self._in_thread(self._writer.adopt)
                if not self._options.follows and (await self.authority()).authority == "there":
                    raise left(moving=False)
                await self.ping()
        except BaseException:
            await self.close()
            raise
        self._presence = Presence(tables(None), follows=self._options.follows, where=self._where, do=self._note)
        self._presence.start()

    async def close(self) -> None:
        """See `Store`."""
        if self._thread is None:
            return
        presence, self._presence = self._presence, None
        if presence is not None:
            await presence.stop()
        await self._writes.close()
        await self._in_thread(self._writer.close)
        self._thread.shutdown(wait=True)
        self._thread = None

    def load(self) -> Load | None:
        """See `Observed`. There is one connection, in use while a batch is."""
        if self._thread is None:
            return None
        return Load(self._writes.queued, self._writes.in_flight, 1, self._writes.in_flight)

    async def authority(self) -> Held:
        """See `MovableStore`."""
        return await self._look(lambda _: self._writer.held())

    async def ping(self) -> datetime:
        """See `Store`."""

        def work(sessions: LegacySessions) -> datetime:
            # Where no writes are accepted none can fail.
            if self._writer.failing and self._writer.held().authority == "here":
                self._writer.probe()
            return sessions.now

        return await self._look(work)

    async def _note(self, noting: Noting) -> None:
        await self._in_thread(self._writer.note, noting)

    async def _do(self, work: Callable[[LegacySessions], Answer]) -> Answer:
        return cast("Answer", await self._call(lambda _, __: work(self._writer.sessions)))

    async def _look(self, work: Callable[[LegacySessions], Answer]) -> Answer:
        """As `_do`, for what writes nothing: answered also while the file accepts no writes."""
        return cast("Answer", await self._call(Reading(lambda: work(self._writer.sessions))))

    async def _call(self, write: Write) -> Any:
        if self._thread is None:
            raise StoreUnavailable("the store is not open")
        return await self._writes.call(write)

    async def _send(self, writer: LegacyWriter, batch: Batch[Write, Any]) -> Sequence[Any]:
        return await self._in_thread(writer.write, batch)

    async def _in_thread(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        if self._thread is None:
            raise NotDone(Kind.FULL, StoreUnavailable(f"{self._where} is closed"))
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
