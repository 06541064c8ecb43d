"""The store contract on a legacy file, served in place beside the application that made it.

Its table stays as it is, in its own form and journal mode; see `docs/how-to/serve-a-legacy-file.md` for what that
costs. Everything goes through the one writer of the process.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from sqlalchemy import Connection

from holdfast.legacy.reading import Reader
from holdfast.legacy.sessions import LegacySessions
from holdfast.legacy.statistics import Tally
from holdfast.legacy.writer import LegacyWriter, Reading
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import HoldfastError, InvalidArgument, StoreRefused, StoreUnavailable
from holdfast.sessions.observer import Load, Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistics
from holdfast.sessions.store import Channel, Held, Hint, Key, StoreOptions
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.address import SqliteAddress
from holdfast.sql.failures import Kind, NotDone, kind_of, to_raise
from holdfast.sql.joiner import Batch, Joiner
from holdfast.sql.presence import Noting, Presence
from holdfast.sql.sqlite import refuse_library
from holdfast.sql.statistics import HOURS, TOP
from holdfast.sql.tables import tables
from holdfast.sql.writer import Write, refuse_strange

Answer = TypeVar("Answer")

_PAGE: Final = 500
_ENDS_SECONDS: Final = 0.25
_ENDS_MARGIN_SECONDS: Final = 2.0
_LONGEST_SILENCE_SECONDS: Final = 30.0
_ENDS_LIMIT: Final = 1000

log = logging.getLogger("holdfast.legacy")


class LegacyStore:
    """The store contract on a SQLite file whose `sessions` table is an application's own."""

    clear_tokens = True
    """Its tokens are the keys of its rows, so the manager hands them over beside their digests."""

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
            if await self._in_thread(self._writer.connect) == "wal":
                refuse_library(sqlite3.sqlite_version_info, strict=self._options.strict_sqlite)
            await self._in_thread(self._writer.adopt)
            if not self._options.follows and (await self.authority()).authority == "there":
                raise StoreRefused(
                    "the sessions were moved to another store, which holds the authority; name both stores, the "
                    "SQLite file with HOLDFAST_SQLITE_PATH and PostgreSQL with DATABASE_URL, or only the one that "
                    "holds it"
                )
            await self.ping()
        except BaseException as error:
            await self.close()
            if isinstance(error, Exception) and kind_of(error) is not Kind.BUG:
                raise to_raise(error, self._where) from error
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
        return await self._with_connection(lambda _, __: self._writer.held(), reading=True)

    async def ping(self) -> datetime:
        """See `Store`."""

        def work(sessions: LegacySessions, connection: Connection) -> datetime:
            # Where no writes are accepted none can fail.
            if self._writer.failing and self._writer.held().authority == "here":
                self._writer.probe(connection, False)
            return sessions.now

        return await self._with_connection(work, reading=True)

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create(record))

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create_capped(record))

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return cast("Record | None", await self._call(key))

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.get(key))

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.extend(key, by))

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.rotate(digest, successor))

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.set_metadata(key, version, metadata))

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.end(key, reason))

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.end_user(user_id, keep, reason))

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.erase_user(user_id))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.why(digest))

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.end_of(id))

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.standing(ids))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.replayed(digest))

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`. Looks in several short steps, so that the old application need not wait for a long one."""
        live: list[Record] = []
        place = after
        while True:
            found, place = await self._page(user_id, place)
            live += found
            if len(live) >= limit or place is None:
                return live[:limit]

    async def _page(self, user_id: str | None, place: UUID | None) -> tuple[list[Record], UUID | None]:
        return await self._look(lambda sessions: sessions.page(user_id, _PAGE, place))

    async def count_live(self) -> int:
        """See `Store`. What takes long is counted in short steps: then sessions that come or go meanwhile may count."""
        count = await self._look(lambda sessions: sessions.count_live())
        if count is not None:
            return count
        count, place = 0, None
        while True:
            found, place = await self._page(None, place)
            count += len(found)
            if place is None:
                return count

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`. Reads in short steps, as lists do; how long ended sessions lasted is not known here."""
        if not (1 <= hours <= HOURS and 1 <= top <= TOP):
            raise InvalidArgument(f"hours is a number from 1 to {HOURS}, and top one from 1 to {TOP}")
        tally = Tally(await self.ping(), hours)
        place: UUID | None = None
        while True:
            found, place = await self._kept(place)
            for record, live in found:
                tally.add(record, live=live)
            if place is None:
                break
        tally.add_ended(await self._look(lambda sessions: sessions.ends()))
        return tally.result(top)

    async def _kept(self, place: UUID | None) -> tuple[list[tuple[Record, bool]], UUID | None]:
        return await self._look(lambda sessions: sessions.kept(_PAGE, place))

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.create_ticket(digest, session, origin))

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.take_ticket(digest, origin))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.mark_expired(min(limit, _PAGE)))

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        return await self._look(lambda sessions: sessions.untold(limit, older_than))

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        await self._do(lambda sessions: sessions.told(ids))

    async def expect_hooks(self) -> None:
        """See `Store`."""
        await self._do(lambda sessions: sessions.expect_hooks())

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        return await self._do(lambda sessions: sessions.delete_ended(limit, older_than, reasons))

    @property
    def channel(self) -> Channel:
        """See `Store`. SQLite tells nobody anything."""
        return "polling"

    async def listen(self, hint: Hint) -> None:
        """See `Store`. The old application's ends are found among the notes, looked for several times a second."""
        time = asyncio.get_running_loop().time
        looked_until: float | None = None
        while True:
            now = time()
            lost = looked_until is None or now - looked_until > _LONGEST_SILENCE_SECONDS
            if lost:
                hint(None)
            silence = 0.0 if lost or looked_until is None else now - looked_until
            window = timedelta(seconds=silence + _ENDS_MARGIN_SECONDS)
            try:
                # Other processes of ours, and the old application, are other connections; this one's ends are told.
                if lost or await self._in_thread(self._writer.has_news):
                    found = await self._just_ended(window)
                    hint(None if len(found) == _ENDS_LIMIT else found)
                looked_until = now
            except (HoldfastError, NotDone, sqlite3.Error) as error:
                looked_until = None
                log.debug("could not look for other processes' ends: %s", type(error).__name__)
            await asyncio.sleep(_ENDS_SECONDS)

    async def _just_ended(self, window: timedelta) -> Sequence[UUID]:
        return await self._look(lambda sessions: sessions.just_ended(window, _ENDS_LIMIT))

    async def _note(self, noting: Noting) -> None:
        await self._in_thread(self._writer.note, noting)

    async def _do(self, work: Callable[[LegacySessions], Answer]) -> Answer:
        return await self._with_connection(lambda sessions, _: work(sessions))

    async def _look(self, work: Callable[[LegacySessions], Answer]) -> Answer:
        """As `_do`, for what writes nothing."""
        return await self._with_connection(lambda sessions, _: work(sessions), reading=True)

    async def _with_connection(
        self, work: Callable[[LegacySessions, Connection], Answer], *, reading: bool = False
    ) -> Answer:
        def call(connection: Connection, _: bool) -> Answer:
            return work(self._writer.sessions, connection)

        return cast("Answer", await self._call(Reading(call) if reading else call))

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
