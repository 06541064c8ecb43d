"""Moves a store from SQLite to PostgreSQL, and back: what may be asked of a mover.

Each method is safe to repeat, and continues what an earlier call left undone, in whichever process that was.
"""

from datetime import timedelta
from typing import Final
from uuid import uuid4

from holdfast.move.conditions import refuse_start, refuse_writing
from holdfast.move.deciding import to_the_end
from holdfast.move.ending import Ending
from holdfast.move.goals import goal
from holdfast.move.state import NO_MOVE, OVER, Look, MoveRefused
from holdfast.move.threads import in_thread

BUDGET: Final = timedelta(seconds=2)
"""How long clients' writes wait for a decision at most."""


class Mover(Ending):
    """One process's part in a move. Used by one task; `async with` opens and closes it."""

    @goal
    async def where(self) -> Look:
        """Where the move stands. Raises `MoveRefused` when the two stores do not belong together."""
        return await self.look()

    @goal
    async def start(self) -> None:
        """Begin a move, or continue one: copy all rows, then follow until nothing is left to apply.

        Raises `MoveRefused` when PostgreSQL has sessions, or SQLite has given its authority away already.
        """
        self._sqlite.reads_anew = True
        look = await self.look()
        if look.postgresql.phase is None:
            if look.sqlite.authority != "here":
                raise MoveRefused(OVER)
            await self._patiently(lambda: in_thread(self._sqlite.make_ready))
            look = await self.look()
            move, store = uuid4(), look.sqlite.store
            await self._back_up(self._addresses[0])
            await self._patiently(lambda: self._postgresql.prepare(move, store))
        await self.run()
        if (await self.look()).sqlite.authority == "here":
            await in_thread(refuse_start, self._sqlite, self._wishes)
            await self._keep_way_back()

    @goal
    async def seal(self) -> None:
        """Refuse the writes of the old application beside a legacy file from now on, and go on taking our own.

        A roll-back takes it back. Nothing to do after a cut-over, which seals the file for all. Raises `MoveRefused`
        when the old application wrote a moment ago.
        """
        await self.run()
        look = await self.look()
        if look.sqlite.authority == "here":
            if look.sqlite.move is None:
                raise MoveRefused(NO_MOVE)
            await in_thread(refuse_writing, self._sqlite, self._wishes)
            token = await self._leased()
            await self._patiently(lambda: in_thread(self._sqlite.retire, token))

    @goal
    async def cut_over(self, budget: timedelta = BUDGET) -> None:
        """Compare all rows, then let PostgreSQL take the authority over. Nothing to do when it has it already.

        Clients' writes wait for milliseconds. When there is no decision within the budget, or the stores differ,
        SQLite serves on and `MoveRefused` says why. Interrupted, it is brought to one end or the other by whoever
        calls `run` or this next. A caller that is cancelled while writes wait waits for the decision.
        """
        look = await self.look()
        if look.postgresql.phase is None:
            raise MoveRefused(OVER if look.sqlite.authority == "there" else NO_MOVE)
        if look.sqlite.authority != "here" or look.postgresql.phase == "cutting":
            # What another one has begun comes to its end first: called off, when it has taken too long.
            await to_the_end(lambda: self._decide(budget))
            look = await self.look()
        if look.sqlite.authority == "here":
            await self._cut(budget)

    @goal
    async def roll_back(self, budget: timedelta = BUDGET) -> None:
        """Bring the authority back to SQLite, with all that was written since. Nothing to do when it has it already.

        It lands where one can cut over again. Compares all rows first. When there is no decision within the budget,
        or the stores differ, PostgreSQL serves on and `MoveRefused` says why. Otherwise as `cut_over`.
        """
        await self.run()
        look = await self.look()
        match look.sqlite.authority, look.postgresql.phase:
            case "here", "following":
                return
            case "there", "switched":
                await self._return(budget)
            case _:
                raise MoveRefused(
                    OVER
                    if look.sqlite.authority == "there"
                    else f"there is nothing to roll back: the move is {look.postgresql.phase or 'not under way'}; "
                    "go on with it, or start one"
                )
