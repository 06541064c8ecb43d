"""Two stores as one: whichever holds the authority answers, and a move between them is followed within a call.

A write that meets a store which does not accept it was not made (`AuthorityMoved`), so it is made again where the
authority has gone. A read counts only if, after it, the store it was read from has not been left. Neither the manager
nor a socket notices more than a short wait.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import AuthorityMoved, HoldfastError, StoreRefused, StoreUnavailable
from holdfast.sessions.observer import NOBODY, Load, Observed, Observer
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Created, End, EndReason, NewRecord, Record, Standing, WhyEnded
from holdfast.sessions.statistics import Statistical, Statistics
from holdfast.sessions.store import Channel, Held, Hint, Key, MovableStore
from holdfast.sessions.sweeper import TakesClearTokens
from holdfast.sessions.tokens import TokenDigest
from holdfast.sql.keeping import KeepsTokens

Answer = TypeVar("Answer")

# Between two looks while a move decides, which takes milliseconds.
_PAUSE_SECONDS: Final = 0.01
# How often a process that nobody asks anything looks where the authority is, and tries to open a store that is away.
_LOOK_SECONDS: Final = 1.0
# How long a store that claims the authority waits for the other one's word before it serves: two claims are a mistake.
_BOTH_SECONDS: Final = 1.0
# How long a store may take to say whether it has the authority.
_HELD_SECONDS: Final = 1.0
# For how long neither store accepts writes before this process asks whether it can go on itself.
_HELP_AFTER_SECONDS: Final = 1.0

_BOTH: Final = (
    "both stores claim the authority although a move has taken place: one of them is a copy or an old backup; take it "
    "out of the configuration, and look at both with `holdfast doctor`"
)

Finish = Callable[[float], Awaitable[None]]
"""Brings a move to its decision, after writes have waited for so many seconds. Raises nothing."""
Stale = Callable[[], Awaitable[str | None]]
"""Why the SQLite file must not serve although it says that it may; `None` when it may.

Raises `StoreUnavailable` when it cannot be seen.
"""
Admit = Callable[[MovableStore], Awaitable[None]]
"""Raises `HoldfastError` for a store that was opened and must not be used."""

log = logging.getLogger("holdfast.move")


class _Side:
    """One of the two stores, and whether it is open in this process."""

    def __init__(self, name: str, store: MovableStore) -> None:
        self.name = name
        self.store = store
        self.open = False
        self.failure: HoldfastError | None = None
        self.refused = False
        """Whether it said when it was last asked that it must not be used as it was opened: its file is another."""
        self._opening: asyncio.Task[None] | None = None

    def start_opening(self, policy: Policy, clock: Clock, admit: Admit) -> None:
        """Open it in a task of its own, unless it is open or being opened: one that is away keeps nobody waiting."""
        if not self.open and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open(policy, clock, admit), name=f"holdfast-open-{self.name}")

    @property
    def opening(self) -> bool:
        """Whether it is still being opened."""
        return self._opening is not None and not self._opening.done()

    async def _open(self, policy: Policy, clock: Clock, admit: Admit) -> None:
        try:
            await self.store.open(policy, clock)
            try:
                await admit(self.store)
            except BaseException:
                await self.store.close()
                raise
        except HoldfastError as error:
            # Said once, not every second: it may be away for days.
            level = logging.DEBUG if str(self.failure) == str(error) else logging.WARNING
            log.log(level, "%s, one of the two stores, cannot be used; trying every second: %s", self.name, error)
            self.failure = error
        else:
            self.open, self.failure, self.refused = True, None, False

    async def close(self) -> None:
        """Close it. Safe to repeat."""
        if self._opening is not None:
            await _stopped(self._opening)
        if self.open:
            self.open = False
            await self.store.close()

    async def held(self) -> Held | None:
        """Its authority; `None` while it cannot be asked, or does not answer soon."""
        if not self.open:
            return None
        try:
            # Not for as long as a call may take: whoever asks here has another store to look at.
            async with asyncio.timeout(_HELD_SECONDS):
                return await self.store.authority()
        except (HoldfastError, TimeoutError) as error:
            self.refused = isinstance(error, StoreRefused)
            log.debug("%s could not be asked for its authority: %s", self.name, error)
            return None


class FollowingStore:
    """The store contract over the two stores of a move.

    Opening needs one of them to hold the authority; the other may be away, and is opened once it answers. A call that
    waits for a move to decide may take the deadline twice: once for waiting, once at the store that has it.
    """

    def __init__(
        self,
        sqlite: MovableStore,
        postgresql: MovableStore,
        *,
        preferred: str | None,
        deadline: float,
        finish: Finish | None = None,
        stale: Stale | None = None,
        missing: Callable[[], bool] | None = None,
    ) -> None:
        """Prepare it; connects to nothing yet.

        Args:
            sqlite: the SQLite half, made with `StoreOptions(follows=True)`.
            postgresql: the PostgreSQL half, made alike.
            preferred: `sqlite` or `postgresql`, which one serves as long as no move has taken place.
            deadline: seconds a call waits for a move to decide.
            finish: called again and again while a move does not decide; `None` leaves it to movers.
            stale: asked before SQLite serves from the start although a move has taken place.
            missing: whether there is no SQLite file. Opening would make one, which must not be in the place of one
                that was lost.
        """
        self._finish = finish
        self._stale = stale
        self._missing = missing or (lambda: False)
        self._conflict: StoreRefused | None = None
        self._stuck_since: float | None = None
        self._sides = (_Side("sqlite", sqlite), _Side("postgresql", postgresql))
        self._preferred = preferred
        self._deadline = deadline
        self._current = self._sides[0]
        self._moved = asyncio.Event()
        self._search: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._policy = Policy()
        self._clock = Clock()
        self._observer = NOBODY

    @property
    def observer(self) -> Observer:
        """See `Observed`. It hears of what both stores do."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._observer = observer
        for side in self._sides:
            if isinstance(side.store, Observed):
                side.store.observer = observer

    def load(self) -> Load | None:
        """See `Observed`: of the store that serves."""
        store = self._current.store
        return store.load() if isinstance(store, Observed) else None

    async def statistics(self, hours: int, top: int) -> Statistics:
        """See `Statistical`: of the store that serves. Raises `StoreRefused` for one that has none, a legacy file."""
        store = self._current.store
        if not isinstance(store, Statistical):
            raise StoreRefused("this store keeps no statistics; they come with a native one")
        return await store.statistics(hours, top)

    @property
    def clear_tokens(self) -> bool:
        """Whether either store keeps tokens in clear: then digests have them beside them, whichever store serves."""
        return any(getattr(side.store, "clear_tokens", False) for side in self._sides)

    @property
    def has_clear_tokens(self) -> bool:
        """Whether imported sessions live in either store: a move carries them from the one to the other."""
        return any(isinstance(side.store, TakesClearTokens) and side.store.has_clear_tokens for side in self._sides)

    async def look_for_clear_tokens(self) -> None:
        """See `TakesClearTokens`: in the store that serves."""
        store = self._current.store
        if isinstance(store, TakesClearTokens):
            await store.look_for_clear_tokens()

    @property
    def serving(self) -> str:
        """Which store serves this process: `sqlite` or `postgresql`."""
        return self._current.name

    async def open(self, policy: Policy, clock: Clock) -> None:
        """See `Store`. Waits up to the deadline for a move that is deciding.

        Raises `StoreRefused` when both claim the authority, `StoreUnavailable` when the one that holds it is away.
        """
        self._policy, self._clock = policy, clock
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            while True:
                await self._start_opening()
                await asyncio.sleep(_PAUSE_SECONDS)
                if any(side.opening for side in self._sides) and loop.time() < begun + _BOTH_SECONDS:
                    continue
                held = [await side.held() for side in self._sides]
                chosen = self._chosen(held)
                if chosen is not None:
                    await self._refuse_stale(chosen, held)
                    break
                await self._help(None)
                if loop.time() > begun + self._deadline:
                    failures = [side.failure for side in self._by_preference() if side.failure is not None]
                    raise (
                        failures[0]
                        if failures
                        else StoreUnavailable(
                            "neither store holds the authority: a move is deciding, or the store that has it is away"
                        )
                    )
                await asyncio.sleep(_PAUSE_SECONDS)
        except BaseException:
            await self.close()
            raise
        self._current = chosen
        self._follower = asyncio.create_task(self._follow(), name="holdfast-follower")

    async def close(self) -> None:
        """See `Store`."""
        for task in (self._follower, self._search):
            if task is not None:
                await _stopped(task)
        self._follower = self._search = None
        for side in self._sides:
            await side.close()

    async def _start_opening(self) -> None:
        """Open what is not open yet, but make no SQLite file anew that a move knows."""
        sqlite, postgresql = self._sides
        postgresql.start_opening(self._policy, self._clock, _admit_all)
        if sqlite.open or not self._missing():
            sqlite.start_opening(self._policy, self._clock, self._admit_file)
            return
        held = await postgresql.held()
        if held is not None and not held.moved:
            sqlite.start_opening(self._policy, self._clock, self._admit_file)
        elif held is not None:
            sqlite.failure = StoreRefused(
                "the SQLite file is not there, and a move has taken place: it is not made anew. Put it back, or see "
                "what to do when it is lost in docs/how-to/move-a-store.md"
            )
        else:
            sqlite.failure = StoreUnavailable(
                "the SQLite file is not there, and PostgreSQL, which knows whether its sessions were moved, cannot be "
                f"asked: {postgresql.failure or 'it does not answer'}"
            )

    async def _admit_file(self, file: MovableStore) -> None:
        """Raise unless a SQLite file that is opened while PostgreSQL serves may be followed to, now or later.

        It may be an old copy that was put in the place of a lost one. One that has given its authority up is no
        danger: only a mover lets it have it again, and looks first whether it is the right one.
        """
        sqlite, postgresql = self._sides
        # At the start both are looked at together.
        if self._follower is None or self._current is sqlite or (await file.authority()).authority == "there":
            return
        held = await postgresql.held()
        if held is None:
            raise StoreUnavailable(
                "the SQLite file was put in its place while PostgreSQL, which knows whether it is the right one, "
                f"cannot be asked: {postgresql.failure or 'it does not answer'}"
            )
        if held.moved and held.authority == "here":
            raise StoreRefused(_BOTH)
        why = await self._stale() if held.moved and self._stale is not None else None
        if why is not None:
            raise StoreRefused(why)

    async def _refuse_stale(self, chosen: _Side, held: Sequence[Held | None]) -> None:
        """Raise `StoreRefused` when SQLite is about to serve from a file that was put back from a backup."""
        other = held[1]
        if chosen is self._sides[0] and other is not None and other.moved and self._stale is not None:
            try:
                why = await self._stale()
            except StoreUnavailable as error:
                log.debug("%s", error)
                return
            if why is not None:
                raise StoreRefused(why)

    def _by_preference(self) -> list[_Side]:
        return sorted(self._sides, key=lambda side: side.name != self._preferred)

    def _chosen(self, held: Sequence[Held | None]) -> _Side | None:
        """The side that serves; `None` while that cannot be said."""
        claims = [
            (side, each)
            for side, each in zip(self._sides, held, strict=True)
            if each is not None and each.authority != "there"
        ]
        if len(claims) == 2:
            if any(each.moved for _, each in claims):
                raise StoreRefused(_BOTH)
            if self._preferred is None:
                raise StoreRefused(
                    "both stores are in use and no move has taken place; set SESSION_DB_TYPE to sqlite or postgresql"
                )
            return next(side for side, _ in claims if side.name == self._preferred)
        for side, each in claims:
            # Before a move either store may hold sessions, so neither takes the place of one that is away.
            if each.moved or side.name == self._preferred or None not in held:
                return side
        return None

    async def _follow(self) -> None:
        """Keep the other store open and look where the authority is, for a process that nobody asks anything."""
        while True:
            await asyncio.sleep(random.uniform(_LOOK_SECONDS / 2, _LOOK_SECONDS))  # noqa: S311 - jitter, no secret
            await self._start_opening()
            await self._find_conflict()
            held = await self._current.held()
            if held is None or held.authority == "there":
                await self._found(self._current)
            await self._help(held)
            await self._open_anew()

    async def _open_anew(self) -> None:
        """Let go of a SQLite file that was lost or replaced while PostgreSQL serves: what is there now is opened then.

        While it serves itself, which file is the right one is not for a process to say: it has to be started again.
        """
        sqlite, postgresql = self._sides
        if self._current is postgresql:
            await sqlite.held()
            if sqlite.open and sqlite.refused:
                log.warning("the SQLite file was replaced or deleted; what is in its place will be opened")
                await sqlite.close()

    async def _find_conflict(self) -> None:
        """Serve nothing from a SQLite file that claims the authority while PostgreSQL has it.

        Somebody put an old copy in its place while PostgreSQL was away: nobody could tell then.
        """
        sqlite, postgresql = self._sides
        found = None
        if self._current is sqlite:
            before = await postgresql.held()
            if before is not None and before.authority == "here" and before.moved:
                claim = await sqlite.held()
                # What it said throughout, or a move has gone on in between.
                if claim is not None and claim.authority == "here" and await postgresql.held() == before:
                    found = StoreRefused(_BOTH)
        if found is not None and self._conflict is None:
            log.critical("%s; this process serves nothing until then", found)
        self._conflict = found

    async def _help(self, seen: Held | None) -> None:
        """See to it that a move comes to its decision, if nobody else does."""
        if self._finish is None or (seen is not None and seen.authority == "here"):
            self._stuck_since = None
            return
        held = [await side.held() for side in self._sides]
        known = [each.authority for each in held if each is not None]
        # Where one is away and the other has given its authority up, there is nothing to decide: that is an outage.
        if "here" in known or not ("pending" in known or known == ["there", "there"]):
            self._stuck_since = None
            return
        now = asyncio.get_running_loop().time()
        self._stuck_since = now if self._stuck_since is None else self._stuck_since
        if now - self._stuck_since >= _HELP_AFTER_SECONDS:
            await self._finish(now - self._stuck_since)

    async def _found(self, left: _Side) -> None:
        """Wait a moment for the authority to be at another store than `left`; return either way."""
        if self._current is not left:
            return
        # One search for all who wait: a cancelled caller must not end it.
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look(left), name="holdfast-authority")
        await asyncio.shield(self._search)

    async def _look(self, left: _Side) -> None:
        other = self._sides[self._sides[0] is left]
        there = await left.held()
        # The other one is asked only when it matters: it may be silent for long, and the left one serve again.
        here = await other.held() if there is None or there.authority == "there" else None
        # Before any move both accept writes, and neither takes the place of one that is away.
        if here is not None and here.authority == "here" and (there is not None or here.moved):
            self._current = other
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
            log.info("the authority moved from %s to %s; this process follows", left.name, other.name)
        else:
            await asyncio.sleep(random.uniform(_PAUSE_SECONDS / 2, _PAUSE_SECONDS))  # noqa: S311 - jitter, no secret

    async def _write(self, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        limit = asyncio.get_running_loop().time() + self._deadline
        while True:
            self._refuse_conflict()
            side = self._current
            try:
                return await call(side.store)
            except AuthorityMoved:
                if asyncio.get_running_loop().time() > limit:
                    raise
            await self._found(side)

    async def _write_kept(self, digest: bytes, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        """Make a write that brings a new token, which PostgreSQL may have been asked to keep for the way back.

        It is kept before it can open anything: a roll-back finds it then, or a token of no session, which does no harm.
        """

        async def kept(store: MovableStore) -> Answer:
            if isinstance(store, KeepsTokens):
                await store.keep_token(digest)
            return await call(store)

        return await self._write(kept if self.clear_tokens else call)

    async def _read(self, call: Callable[[MovableStore], Awaitable[Answer]]) -> Answer:
        limit = asyncio.get_running_loop().time() + self._deadline
        while True:
            self._refuse_conflict()
            side = self._current
            answer = await call(side.store)
            # Asked after the reading: what was read came before anything that another store took over.
            if (await side.store.authority()).authority != "there":
                return answer
            if asyncio.get_running_loop().time() > limit:
                raise AuthorityMoved("another store holds the authority, and cannot be reached; nothing was read")
            await self._found(side)

    def _refuse_conflict(self) -> None:
        if self._conflict is not None:
            raise StoreRefused(str(self._conflict))

    async def authority(self) -> Held:
        """The authority of the store that serves."""
        return await self._current.store.authority()

    # The contract. Reads first, then writes, then what the process hears.

    async def ping(self) -> datetime:
        """See `Store`."""
        # On PostgreSQL it writes nothing, so that no fence would say that the store was left.
        return await self._read(lambda _: self._write(lambda store: store.ping()))

    async def get(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._read(lambda store: store.get(key))

    async def why(self, digest: TokenDigest) -> WhyEnded | None:
        """See `Store`."""
        return await self._read(lambda store: store.why(digest))

    async def end_of(self, id: UUID) -> End | None:
        """See `Store`."""
        return await self._read(lambda store: store.end_of(id))

    async def standing(self, ids: Sequence[UUID]) -> Standing:
        """See `Store`."""
        return await self._read(lambda store: store.standing(ids))

    async def replayed(self, digest: TokenDigest) -> UUID | None:
        """See `Store`."""
        return await self._read(lambda store: store.replayed(digest))

    async def list_live(self, user_id: str | None, limit: int, after: UUID | None) -> list[Record]:
        """See `Store`."""
        return await self._read(lambda store: store.list_live(user_id, limit, after))

    async def count_live(self) -> int:
        """See `Store`."""
        return await self._read(lambda store: store.count_live())

    async def untold(self, limit: int, older_than: timedelta) -> list[End]:
        """See `Store`."""
        return await self._read(lambda store: store.untold(limit, older_than))

    async def create(self, record: NewRecord) -> Record:
        """See `Store`."""
        return await self._write_kept(record.digest, lambda store: store.create(record))

    async def create_capped(self, record: NewRecord) -> Created:
        """See `Store`."""
        return await self._write_kept(record.digest, lambda store: store.create_capped(record))

    async def touch(self, key: Key) -> Record | None:
        """See `Store`."""
        return await self._write(lambda store: store.touch(key))

    async def extend(self, key: Key, by: timedelta) -> datetime | None:
        """See `Store`."""
        return await self._write(lambda store: store.extend(key, by))

    async def rotate(self, digest: TokenDigest, successor: TokenDigest) -> Record | None:
        """See `Store`."""
        return await self._write_kept(successor, lambda store: store.rotate(digest, successor))

    async def set_metadata(self, key: Key, version: int, metadata: str) -> Record | None:
        """See `Store`."""
        return await self._write(lambda store: store.set_metadata(key, version, metadata))

    async def end(self, key: Key, reason: EndReason) -> End | None:
        """See `Store`."""
        return await self._write(lambda store: store.end(key, reason))

    async def end_user(self, user_id: str, keep: UUID | None, reason: EndReason) -> list[End]:
        """See `Store`."""
        return await self._write(lambda store: store.end_user(user_id, keep, reason))

    async def erase_user(self, user_id: str) -> int:
        """See `Store`."""
        return await self._write(lambda store: store.erase_user(user_id))

    async def create_ticket(self, digest: TokenDigest, session: TokenDigest, origin: str | None) -> datetime | None:
        """See `Store`."""
        return await self._write(lambda store: store.create_ticket(digest, session, origin))

    async def take_ticket(self, digest: TokenDigest, origin: str | None) -> UUID | None:
        """See `Store`."""
        return await self._write(lambda store: store.take_ticket(digest, origin))

    async def mark_expired(self, limit: int) -> list[End]:
        """See `Store`."""
        return await self._write(lambda store: store.mark_expired(limit))

    async def told(self, ids: Sequence[UUID]) -> None:
        """See `Store`."""
        await self._write(lambda store: store.told(ids))

    async def expect_hooks(self) -> None:
        """See `Store`."""
        await self._write(lambda store: store.expect_hooks())

    async def delete_ended(self, limit: int, older_than: timedelta, reasons: Sequence[EndReason]) -> int:
        """See `Store`."""
        return await self._write(lambda store: store.delete_ended(limit, older_than, reasons))

    @property
    def channel(self) -> Channel:
        """See `Store`."""
        return self._current.store.channel

    async def listen(self, hint: Hint) -> None:
        """See `Store`. After a move any session may have ended unheard, so it hints at all."""
        while True:
            moved = self._moved
            listening = asyncio.ensure_future(self._current.store.listen(hint))
            waiting = asyncio.ensure_future(moved.wait())
            try:
                await asyncio.wait((listening, waiting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (listening, waiting):
                    task.cancel()
                await asyncio.gather(listening, waiting, return_exceptions=True)
            hint(None)


async def _admit_all(_: MovableStore) -> None:
    """Admit a store, whatever it says."""


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
