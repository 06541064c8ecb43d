"""Which of the two stores serves a process: where the authority is, and how the process goes with it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.move.following_opening import BOTH, Opening, Stale
from holdfast.move.following_side import Side, stopped
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Held, MovableStore

# Between two looks while a move decides, which takes milliseconds.
_PAUSE_SECONDS: Final = 0.01
# How often a process that nobody asks anything looks where the authority is, and tries to open a store that is away.
# A socket closes within a second of its session's end (promise 6), whichever store the end was made in.
_LOOK_SECONDS: Final = 0.7
# How long a store that claims the authority waits for the other one's word before it serves: two claims are a mistake.
_BOTH_SECONDS: Final = 1.0
# For how long neither store accepts writes before this process asks whether it can go on itself.
_HELP_AFTER_SECONDS: Final = 1.0

Finish = Callable[[float], Awaitable[None]]
"""Brings a move to its decision, after writes have waited for so many seconds. Raises nothing."""

log = logging.getLogger("holdfast.move")


class Switch:
    """The two stores of a process, one of which serves it."""

    def __init__(
        self,
        sqlite: MovableStore,
        postgresql: MovableStore,
        *,
        preferred: str | None,
        deadline: float,
        finish: Finish | None,
        stale: Stale | None,
        missing: Callable[[], bool] | None,
    ) -> None:
        """Prepare it, with what `FollowingStore` is given; connects to nothing yet."""
        self._sqlite, self._postgresql = self._sides = (Side("sqlite", sqlite), Side("postgresql", postgresql))
        self.current = self._sqlite
        """The one that serves; before it is open, SQLite."""
        self.moved = asyncio.Event()
        """Set once when another one serves, and then replaced by a new one."""
        self._opening = Opening(
            *self._sides,
            preferred=preferred,
            stale=stale,
            missing=missing,
            serves=lambda: None if self._follower is None else self.current,
        )
        self._deadline = deadline
        self._finish = finish
        self._conflict: StoreRefused | None = None
        self._stuck_since: float | None = None
        self._search: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._policy = Policy()
        self._clock = Clock()

    @property
    def stores(self) -> tuple[MovableStore, MovableStore]:
        """Both, SQLite first."""
        return self._sqlite.store, self._postgresql.store

    async def open(self, policy: Policy, clock: Clock) -> None:
        """Open both, and find out which one serves. As `FollowingStore.open` says."""
        self._policy, self._clock = policy, clock
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            while True:
                await self._opening.start(policy, clock)
                await asyncio.sleep(_PAUSE_SECONDS)
                if any(side.opening for side in self._sides) and loop.time() < begun + _BOTH_SECONDS:
                    continue
                held = [await side.held() for side in self._sides]
                # Two looks are not at one instant: a cut-over between them is no second claim.
                lasts = None in held or await self._sqlite.held() == held[0]
                chosen = self._opening.chosen(held) if lasts else None
                if chosen is not None:
                    await self._opening.refuse_stale(chosen, held)
                    break
                await self._help(None)
                if loop.time() > begun + self._deadline:
                    raise self._opening.failure() or StoreUnavailable(
                        "neither store holds the authority: a move is deciding, or the store that has it is away"
                    )
                await asyncio.sleep(_PAUSE_SECONDS)
        except BaseException:
            await self.close()
            raise
        self._enter(chosen, held[self._sides.index(chosen)])
        self._follower = asyncio.create_task(self._follow(), name="holdfast-follower")

    async def close(self) -> None:
        """Close both. Safe to repeat."""
        for task in (self._follower, self._search):
            if task is not None:
                await stopped(task)
        self._follower = self._search = None
        for side in self._sides:
            await side.close()

    def refuse_conflict(self) -> None:
        """Raise `StoreRefused` while the SQLite file that serves claims an authority that PostgreSQL has."""
        if self._conflict is not None:
            raise StoreRefused(str(self._conflict))

    async def _follow(self) -> None:
        """Keep the other store open and look where the authority is, for a process that nobody asks anything."""
        while True:
            await asyncio.sleep(random.uniform(_LOOK_SECONDS / 2, _LOOK_SECONDS))  # noqa: S311 - jitter, no secret
            try:
                await self._look_around()
            except Exception:
                # Nobody waits for this task: a process whose looks have ended would never hear of a move.
                log.exception("a look at where the authority is has failed; the next one is made all the same")

    async def _look_around(self) -> None:
        await self._opening.start(self._policy, self._clock)
        await self._find_conflict()
        held = await self.current.held()
        if held is None or held.authority == "there":
            await self.found(self.current)
        await self._help(held)
        await self._opening.let_go()

    async def _find_conflict(self) -> None:
        """Serve nothing from a SQLite file that claims the authority while PostgreSQL has it.

        Somebody put an old copy in its place while PostgreSQL was away: nobody could tell then.
        """
        sqlite, postgresql = self._sqlite, self._postgresql
        found = None
        if self.current is sqlite:
            before = await postgresql.held()
            if before is not None and before.authority == "here" and before.moved:
                claim = await sqlite.held()
                # What it said throughout, or a move has gone on in between.
                if claim is not None and claim.authority == "here" and await postgresql.held() == before:
                    found = StoreRefused(BOTH)
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

    async def found(self, left: Side) -> None:
        """Wait a moment for the authority to be at another store than `left`; return either way."""
        if self.current is not left:
            return
        # One search for all who wait: a cancelled caller must not end it.
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look(left), name="holdfast-authority")
        await asyncio.shield(self._search)

    async def _look(self, left: Side) -> None:
        other = self._postgresql if left is self._sqlite else self._sqlite
        there = await left.held()
        # The other one is asked only when it matters: it may be silent for long, and the left one serve again.
        here = await other.held() if there is None or there.authority == "there" else None
        # Before any move both accept writes, and neither takes the place of one that is away.
        if here is not None and here.authority == "here" and (there is not None or here.moved):
            self._enter(other, here)
            moved, self.moved = self.moved, asyncio.Event()
            moved.set()
            log.info("the authority moved from %s to %s; this process follows", left.name, other.name)
        else:
            await asyncio.sleep(random.uniform(_PAUSE_SECONDS / 2, _PAUSE_SECONDS))  # noqa: S311 - jitter, no secret

    def _enter(self, side: Side, held: Held | None) -> None:
        """Let a store serve that has just said that it does."""
        self.current, side.epoch = side, None if held is None else held.epoch
