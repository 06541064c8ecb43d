"""Holds the two stores against each other, while writes go on."""

import asyncio
from math import inf
from typing import Final
from uuid import UUID

from holdfast.move.goals import goal
from holdfast.move.rows import Key, Shape
from holdfast.move.running import Running
from holdfast.move.state import TAKEN_OVER, LeaseHeld, MoveRefused, WritesTooFast
from holdfast.move.steps import Differing
from holdfast.move.threads import in_thread
from holdfast.move.verifying import Comparison, Stretch, compared, stretch_after

# Rows that are read and compared within a few milliseconds.
_FEW: Final = 50
_MOST_PASSES: Final = 5


class Comparing(Running):
    """The part of a mover that compares."""

    @goal
    async def verify(self) -> Comparison:
        """Compare all rows of both stores, while writes go on. Before a cut-over, and before a roll-back.

        Raises `MoveRefused` when no move is far enough, or writes come faster than they are applied.
        """
        await self.run()
        look = await self.look()
        where = (look.sqlite.authority, look.postgresql.phase)
        if where not in (("here", "following"), ("there", "switched")):
            raise MoveRefused(
                f"there is nothing to compare: the move is {look.postgresql.phase or 'not under way'}; start one, or "
                "bring it to its end"
            )
        token, since = await self._leased(), look.sqlite.head
        self._begin("comparing", sum((await in_thread(self._sqlite.counts)).values()))

        async def renew(rows: int) -> None:
            await self._patiently(self._renew)
            self._report(rows)
            await self._patiently(self._give_way)

        async def note() -> None:
            async with self._postgresql.step("verify", token, "following", "switched") as step:
                if not comparison.clean:
                    await step.differs()
                elif where[0] == "here":
                    await step.verified(since)
                else:
                    await step.verified_again()

        async def read(shape: Shape, after: Key | None) -> Stretch:
            stores = self._sqlite, self._postgresql
            return await self._patiently(lambda: stretch_after(*stores, shape, after, self._rows))

        comparison = await compared(read, renew, lambda suspected: self._settled(suspected, token))
        await self._patiently(note)
        if comparison.clean and where[0] == "here":
            await self._patiently(lambda: in_thread(self._sqlite.prune, since, token))
        return comparison

    @goal
    async def mend(self, comparison: Comparison) -> Comparison:
        """Take the rows that a comparison found to differ once more from the store that serves; compare all again."""
        token = await self._leased()
        if (await self.look()).sqlite.authority == "here":
            await in_thread(self._sqlite.take_again, comparison.differing, token)
        else:
            async with self._postgresql.step("take again", token, "switched") as step:
                await step.take_again(comparison.differing)
        return await self.verify()

    async def _freshen(self) -> bool:
        """Compare what was written since the last comparison, and the numbers of rows; whether nothing differs.

        Until little is left of it for the moment in which writes wait. It does not have to come that far.
        """
        self._steps.counted = False
        if not await self._written_is_alike():
            return False
        for _ in range(_MOST_PASSES):
            alike = await self._steps.count(await self._leased())
            if alike is not None:
                self._steps.counted = alike
                # A million rows are not counted in a moment, and others were written meanwhile.
                return alike and await self._written_is_alike()
        return True

    async def _written_is_alike(self) -> bool:
        """Compare what was written since the last comparison until it is little; whether nothing differs."""
        for _ in range(_MOST_PASSES):
            look, token = await self.look(), await self._leased()
            keys = await in_thread(self._sqlite.touched, look.postgresql.verified or 0)
            if sum(map(len, keys.values())) <= _FEW:
                break
            for table, some in keys.items():
                for start in range(0, len(some), self._rows):
                    if any((await self._settled({table: some[start : start + self._rows]}, token)).values()):
                        return False
            async with self._postgresql.step("verify", token, "following") as step:
                await step.verified(look.sqlite.head)
        return True

    def named(self, comparison: Comparison, most: int = 20) -> list[str]:
        """Some of the rows that differ, for a message: sessions by their ids, others by their table only."""
        ids = comparison.differing.get("sessions", [])[:most]
        others = [table for table, keys in comparison.differing.items() if keys and table != "sessions"]
        return [*(f"session {UUID(hex=key)}" for key in ids if isinstance(key, str)), *others]

    async def _settled(self, suspected: Differing, token: int) -> Differing:
        """Of the rows that seemed to differ, those that differ once all changes are applied."""
        # Without them first: they are read again with each stretch of what is applied.
        await self._applied({}, token)
        return await self._applied(suspected, token)

    async def _applied(self, others: Differing, token: int) -> Differing:
        """Apply all changes; which of some other keys' rows differ then."""
        time = asyncio.get_running_loop().time
        limit, least = time() + self._patience, inf
        while True:
            lag, complete, differing = await self._patiently(lambda: self._apply_some(others, token))
            if complete:
                return differing
            if lag < least:
                # As long as less is left than ever it comes to an end, slow as the machine may be.
                limit, least = time() + self._patience, lag
            if time() > limit:
                raise WritesTooFast

    async def _apply_some(self, others: Differing, token: int) -> tuple[int, bool, Differing]:
        """Apply a stretch of the changes: how many there were at most, and what the step says."""
        look = await self.look()
        match look.postgresql.phase:
            case "following":
                return look.lag, *await self._steps.apply(look, token, others)
            case "switched":
                return look.lag, *await self._steps.reverse(token, others)
            case _:
                raise LeaseHeld(f"{TAKEN_OVER}; look at its status, and repeat this then")
