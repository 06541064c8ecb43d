"""A seeded schedule with an old application: it writes in its own form beside Holdfast, and right through the cut-over.

What it was told was done has to be found, whoever serves; what it is refused it is refused in words.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from holdfast import SessionManager, StoreOptions
from holdfast.legacy.store import LegacyStore
from holdfast.move.conditions import Wishes
from holdfast.move.following import FollowingStore
from holdfast.move.mover import Mover
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.postgresql import PostgresqlStore
from tests.legacy.old_application import OldSessionManager
from tests.move.ledger import Known
from tests.move.legacy_place import ZONE, LegacyPlace
from tests.move.old_writing import OldProcess
from tests.move.schedule import Schedule
from tests.move.writing import DEADLINE

SEALED = ("moved to another store", "its sessions are moved")
LOCKED = "database is locked"


class LegacySchedule(Schedule):
    """One run over a legacy file without a session, with a process of the old application."""

    def __init__(self, place: LegacyPlace, seed: int, old: OldProcess) -> None:
        super().__init__(place, seed)
        self._seed = seed
        self._old = old
        self._retires = self._chance.choice((False, False, True))
        self._seals = self._chance.choice((False, False, True))
        self._keeps = self._chance.choice((False, True))
        self._shared: dict[str, Known] = {}
        self._said: dict[str, Any] | None = None

    def _store(self) -> FollowingStore:
        file, database = parse_address(self._place.path), parse_address(self._place.address)
        assert isinstance(file, SqliteAddress)
        assert isinstance(database, PostgresqlAddress)
        options = StoreOptions(follows=True, deadline=DEADLINE)
        halves = LegacyStore(file, options, ZoneInfo(ZONE)), PostgresqlStore(database, options)
        return FollowingStore(*halves, preferred="sqlite", deadline=DEADLINE)

    def _mover(self, **changes: Any) -> Mover:
        return super()._mover(wishes=Wishes(quiet=timedelta(0), keep_way_back=self._keeps), **changes)

    async def _alone(self, stack: AsyncExitStack) -> SessionManager:
        file = parse_address(self._place.path)
        assert isinstance(file, SqliteAddress)
        store = LegacyStore(file, StoreOptions(), ZoneInfo(ZONE))
        return await stack.enter_async_context(SessionManager(store, sweep_interval=None))

    async def _begin(self, managers: Sequence[SessionManager]) -> None:
        """The old application has sessions, and goes on to use them."""
        old = OldSessionManager(self._place.path)
        for number in range(self._chance.choice((1, 3, 6))):
            said = {"n": number}
            token = await asyncio.to_thread(old.create_session, f"shared-{number}", said)
            session = await managers[0].get_session(token)
            assert session is not None
            id = UUID(session.id).hex
            self._shared[token] = Known(id, token, f"shared-{number}", dict(said), shared=True)
        self._ledger.sessions |= {known.id: known for known in self._shared.values()}
        await self._old.write(self._place.path, list(self._shared), self._seed)

    async def _before_cut_over(self) -> None:
        if self._retires:
            await self._take_down()
        if self._seals:
            await self._pursue("seal")

    async def _end(self, managers: Sequence[SessionManager]) -> None:
        await self._take_down()
        said = self._said
        assert said is not None
        if self._ends != "complete":
            # Then the rows are gone from the file, and it finds nothing to write.
            assert not said["missed"], f"the old application did not find its sessions: {said['missed']}"
        strange = [each for each in said["errors"] if LOCKED not in each and not any(part in each for part in SEALED)]
        assert not strange, strange
        for token, counted in said["counted"].items():
            self._shared[token].counted += counted
            self._shared[token].asked += counted
        self._ledger.strangers = len(said["made"]) + len(said["ended"])
        done = {"count": sum(said["counted"].values()), "extended": said["extended"]}
        self._ledger.acknowledged += Counter(
            {f"old {name}": number for name, number in done.items()}
            | {"old create": self._ledger.strangers, "old delete": len(said["ended"])}
        )
        self._moved["old application refused"] += len(said["errors"])
        await super()._end(managers)
        for token in said["made"]:
            assert await managers[0].get_session(token) is not None, "a session of the old application is lost (I2)"
        for token in said["ended"]:
            assert await managers[0].get_session(token) is None, "a session of the old application came back (I3)"
        if self._keeps and self._serving == "sqlite":
            there = {token for (token,) in self._place.in_sqlite("SELECT session_id FROM sessions")}
            live = (known for known in self._ledger.sessions.values() if not known.maybe_ended and not known.rotating)
            unknown = [known.id for known in live if known.token not in there]
            assert not unknown, f"sessions {unknown} are lost to the old application (I4)"

    async def _both_alike(self) -> None:
        """The comparison of all rows says it; the file's own rows have another form."""

    async def _take_down(self) -> None:
        if self._said is None:
            self._said = await self._old.stopped()

    async def _give_up(self) -> None:
        """After a failure: the process has another file to write to next."""
        if self._shared and self._said is None:
            with suppress(Exception):
                await self._old.stopped()
        await super()._give_up()
