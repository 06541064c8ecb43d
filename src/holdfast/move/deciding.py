"""The moments in which the authority changes hands: no store accepts writes, for milliseconds, and nobody is left so.

Past its budget a decision is called off, by the one who began it or by whoever comes next.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn, TypeVar

from holdfast.move.clock_difference import refuse_apart
from holdfast.move.comparing import Comparing
from holdfast.move.conditions import refuse_cut_over
from holdfast.move.goals import goal
from holdfast.move.state import LeaseHeld, MoveRefused, StoresDiffer
from holdfast.move.threads import in_thread

Answer = TypeVar("Answer")


class Deciding(Comparing):
    """The part of a mover that brings the authority from one store to the other."""

    @goal
    async def refuse_unready(self) -> None:
        """Raise `MoveRefused` when a cut-over would, for the file, for who writes to it, or for the clocks.

        Changes nothing.
        """
        refuse_apart(await self._postgresql.seconds_ahead())
        await in_thread(refuse_cut_over, self._sqlite, self._wishes)

    async def _cut(self, budget: timedelta) -> None:
        await self.run()
        await self.refuse_unready()
        await self._keep_way_back()
        if not (await self.verify()).clean:
            raise StoresDiffer("the two stores differ, see what `verify` finds; SQLite serves on")
        await self._back_up(self._addresses[0])
        await self._patiently(self._wait_for_vacuum)
        await self.run()
        if not await self._patiently(self._freshen):
            raise StoresDiffer("the two stores differ, see what `verify` finds; SQLite serves on")
        await self.run()
        token = await self._leased()
        await self._patiently(lambda: self._begin_cut(token, budget))
        self._measure()
        try:
            await to_the_end(lambda: self._decide(budget))
        finally:
            self._steps.counted = False
        if (await self.look()).postgresql.phase != "switched":
            self._refuse_late("cut-over", "SQLite", budget)

    async def _wait_for_vacuum(self) -> None:
        """Before the last changes are taken over: what is written meanwhile is more for writes to wait for."""
        async with self._postgresql.step("renew", await self._leased(), "following", "switched") as step:
            await step.wait_for_vacuum()

    async def _begin_cut(self, token: int, budget: timedelta) -> None:
        # Or begun already, by an attempt of this mover whose answer was lost; likewise the fence.
        async with self._postgresql.step("cut", token, "following", "cutting") as step:
            await step.keep_vacuum_off()
            await step.cut(budget)

    def _refuse_late(self, what: str, serves: str, budget: timedelta) -> NoReturn:
        waited = "" if self.writes_waited is None else f"; writes waited for {self.writes_waited * 1000:,.0f} ms"
        steps = ", ".join(f"{step} {seconds * 1000:,.0f} ms" for step, seconds in self.times.items()) or "no step done"
        raise MoveRefused(
            f"there was no decision within {budget.total_seconds() * 1000:,.0f} ms, so the {what} was called off by "
            f"itself and {serves} serves on{waited} ({steps}); nothing is lost: try again when there is less load, or "
            "allow it more time"
        )

    async def _decide(self, budget: timedelta) -> None:
        late, failure = await self._within(budget)
        if failure is not None and not isinstance(failure, LeaseHeld):
            # Whatever went wrong, PostgreSQL out of reach perhaps: writes must not wait for it.
            with suppress(Exception):
                await in_thread(self._sqlite.withdraw, None)
                self._opened()
        if failure is not None and (late or isinstance(failure, asyncio.CancelledError)):
            if (await self.look()).sqlite.authority == "there":
                await self.run()
            else:
                await self.withdraw()
        elif failure is not None:
            raise failure

    async def _within(self, budget: timedelta) -> tuple[bool, BaseException | None]:
        """Take the steps of a decision; whether they took too long, and what stopped them."""
        deciding = asyncio.ensure_future(self.run(budget.total_seconds()))
        await asyncio.wait((deciding,), timeout=budget.total_seconds())
        late = not deciding.done()
        if late:
            # PostgreSQL may be silent, and would be waited for until the time of its statement is up.
            self._postgresql.break_off()
            deciding.cancel()
        [failure] = await asyncio.gather(deciding, return_exceptions=True)
        return late, failure

    @goal
    async def withdraw(self) -> None:
        """Call a cut-over off. Raises `MoveRefused` when SQLite has decided already: then roll back instead."""
        look = await self.look()
        if look.sqlite.authority == "there":
            raise MoveRefused("SQLite has given its authority up already; roll back instead")
        if look.sqlite.authority == "pending":
            # First, and without a token: whoever has it may sleep in a transaction, and writes must not wait for that.
            await in_thread(self._sqlite.withdraw, None)
            self._opened()
        token = await self._leased()
        if look.postgresql.phase == "cutting":
            await self._steps.resume(token)

    async def _return(self, budget: timedelta) -> None:
        if not (await self.verify()).clean:
            raise StoresDiffer("the two stores differ, see what `verify` finds; PostgreSQL serves on")
        await self._back_up(self._addresses[1])
        await self._patiently(self._wait_for_vacuum)
        await self.run()
        token = await self._leased()
        self._measure()
        await to_the_end(lambda: self._give_back(token, budget))
        if (await self.look()).postgresql.phase == "switched":
            self._refuse_late("roll-back", "PostgreSQL", budget)

    async def _give_back(self, token: int, budget: timedelta) -> None:
        await self._patiently(lambda: self._fence(token, budget))
        late, failure = await self._within(budget)
        if failure is None:
            return
        if not isinstance(failure, LeaseHeld):
            # Whatever went wrong, SQLite's file held by somebody perhaps: writes must not wait for it.
            with suppress(Exception):
                await self._steps.stay(await self._leased())
                self._opened()
        if not late and not isinstance(failure, asyncio.CancelledError):
            raise failure
        if (await self.look()).postgresql.phase != "switched":
            # It had given its authority up, or is not to be reached.
            await self.run()

    async def _fence(self, token: int, budget: timedelta) -> None:
        async with self._postgresql.step("fence", token, "switched", "returning") as step:
            await step.keep_vacuum_off()
            self._closed = asyncio.get_running_loop().time()
            await step.fence(budget)

    async def _keep_way_back(self) -> None:
        if self._wishes.keep_way_back and self._sqlite.keeps_clear:
            async with self._postgresql.step("keep", await self._leased(), "copying", "following") as step:
                await step.keep_tokens()

    def _measure(self) -> None:
        """Time the steps from now on."""
        self.times.clear()
        self.writes_waited = None


async def to_the_end(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of a call during which writes wait. A cancelled caller waits for it: it is short, and then decided."""
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
