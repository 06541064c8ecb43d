"""Opens the two stores for a process that follows a move, and says which one serves first.

It has to tell the right SQLite file from one that is lost, empty, or an old copy: by what PostgreSQL knows.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from holdfast.move.following_side import Side
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import HoldfastError, StoreRefused, StoreUnavailable
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Held, MovableStore

BOTH: Final = (
    "both stores claim the authority although a move has taken place: one of them is a copy or an old backup; take it "
    "out of the configuration, and look at both with `holdfast doctor`"
)

Stale = Callable[[], Awaitable[str | None]]
"""Why the SQLite file must not serve although it says that it may; `None` when it may.

Raises `StoreUnavailable` when it cannot be seen.
"""

log = logging.getLogger("holdfast.move")


class Opening:
    """What decides which of the two may be opened, and which may serve."""

    def __init__(
        self,
        sqlite: Side,
        postgresql: Side,
        *,
        preferred: str | None,
        stale: Stale | None,
        missing: Callable[[], bool] | None,
        serves: Callable[[], Side | None],
    ) -> None:
        """Keep the two. `serves` says which of them serves now, `None` before that is known.

        The rest is what `FollowingStore` says of it.
        """
        self._sqlite = sqlite
        self._postgresql = postgresql
        self._preferred = preferred
        self._stale = stale
        self._missing = missing
        self._serves = serves

    async def start(self, policy: Policy, clock: Clock) -> None:
        """Open what is not open yet, but make no SQLite file anew that a move knows."""
        sqlite, postgresql = self._sqlite, self._postgresql
        postgresql.start_opening(policy, clock, _admit_all)
        if sqlite.open or self._missing is None or not self._missing():
            sqlite.start_opening(policy, clock, self._admit_file)
            return
        held = await postgresql.held()
        if held is not None and not held.moved:
            sqlite.start_opening(policy, clock, self._admit_file)
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

    async def let_go(self) -> None:
        """Close a SQLite file that another one has replaced while PostgreSQL serves, so that it is opened next.

        While it serves itself, which file is the right one is not for a process to say: it has to be started again.
        """
        sqlite = self._sqlite
        if self._serves() is not self._postgresql or self._missing is None:
            return
        await sqlite.held()
        if sqlite.open and sqlite.refused and not self._missing():
            log.warning("the SQLite file was replaced; what is in its place will be opened")
            await sqlite.close()

    async def _admit_file(self, file: MovableStore) -> None:
        """Raise unless a SQLite file that is opened while PostgreSQL serves may be followed to, now or later.

        It may be an old copy that was put in the place of a lost one. One that has given its authority up is no
        danger: only a mover lets it have it again, and looks first whether it is the right one.
        """
        postgresql = self._postgresql
        # At the start both are looked at together.
        if self._serves() is not postgresql or (await file.authority()).authority == "there":
            return
        held = await postgresql.held()
        if held is None:
            raise StoreUnavailable(
                "the SQLite file was put in its place while PostgreSQL, which knows whether it is the right one, "
                f"cannot be asked: {postgresql.failure or 'it does not answer'}"
            )
        if held.moved and held.authority == "here":
            raise StoreRefused(BOTH)
        why = await self._stale() if held.moved and self._stale is not None else None
        if why is not None:
            raise StoreRefused(why)

    async def refuse_stale(self, chosen: Side, held: Sequence[Held | None]) -> None:
        """Raise `StoreRefused` when SQLite is about to serve from a file that was put back from a backup."""
        other = held[1]
        if chosen is self._sqlite and other is not None and other.moved and self._stale is not None:
            try:
                why = await self._stale()
            except StoreUnavailable as error:
                log.debug("%s", error)
                return
            if why is not None:
                raise StoreRefused(why)

    def chosen(self, held: Sequence[Held | None]) -> Side | None:
        """The side that serves by what the two say; `None` while that cannot be said."""
        claims = [
            (side, each)
            for side, each in zip((self._sqlite, self._postgresql), held, strict=True)
            if each is not None and each.authority != "there"
        ]
        if len(claims) == 2:
            if any(each.moved for _, each in claims):
                raise StoreRefused(BOTH)
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

    def failure(self) -> HoldfastError | None:
        """What keeps one of the two from being opened, first the one that is to serve."""
        sides = sorted((self._sqlite, self._postgresql), key=lambda side: side.name != self._preferred)
        return next((side.failure for side in sides if side.failure is not None), None)


async def _admit_all(_: MovableStore) -> None:
    """Admit a store, whatever it says."""
