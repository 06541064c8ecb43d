"""Moves a store from SQLite to PostgreSQL, and back: what may be asked of a mover.

Each method is safe to repeat, and continues what an earlier call left undone, in whichever process that was.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, NoReturn, TypeVar
from uuid import uuid4

from holdfast.move.comparing import Comparing
from holdfast.move.conditions import refuse_cut_over, refuse_start, refuse_writing
from holdfast.move.goals import goal
from holdfast.move.state import LeaseHeld, MoveRefused, Phase, StoresDiffer
from holdfast.move.threads import in_thread
from holdfast.sessions.store import Authority

Answer = TypeVar("Answer")

BUDGET: Final = timedelta(seconds=2)
"""How long clients' writes wait for a decision at most."""
NO_MOVE: Final = "no move is under way; start one"
OVER: Final = "the sessions were moved already, and PostgreSQL holds them; there is nothing left to do"


class Mover(Comparing):
    """One process's part in a move. Used by one task; `async with` opens and closes it."""

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
            await _to_the_end(lambda: self._decide(budget))
            look = await self.look()
        if look.sqlite.authority == "here":
            await self._cut(budget)

    async def refuse_unready(self) -> None:
        """Raise `MoveRefused` when a cut-over would, for what the file holds or who writes to it. Changes nothing."""
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
            await _to_the_end(lambda: self._decide(budget))
        finally:
            self._steps.counted = False
        if (await self.look()).postgresql.phase != "switched":
            self._refuse_late("cut-over", "SQLite", budget)

    async def _wait_for_vacuum(self) -> None:
        """Before the last changes are taken over: what is written meanwhile is more for writes to wait for."""
        async with self._postgresql.step("renew", await self._leased(), "following", "switched") as step:
            await step.wait_for_vacuum()

    async def _begin_cut(self, token: int, budget: timedelta) -> None:
        async with self._postgresql.step("cut", token, "following") as step:
            await step.keep_vacuum_off()
            await step.cut(budget)

    def _refuse_late(self, what: str, serves: str, budget: timedelta) -> NoReturn:
        waited = "" if self.writes_waited is None else f"; writes waited for {self.writes_waited * 1000:,.0f} ms"
        steps = ", ".join(f"{step} {seconds * 1000:,.0f} ms" for step, seconds in self.times.items())
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
                if not (await self.verify()).clean:
                    raise StoresDiffer("the two stores differ, see what `verify` finds; PostgreSQL serves on")
                await self._back_up(self._addresses[1])
                await self._patiently(self._wait_for_vacuum)
                await self.run()
                token = await self._leased()
                self._measure()
                await _to_the_end(lambda: self._give_back(token, budget))
                if (await self.look()).postgresql.phase == "switched":
                    self._refuse_late("roll-back", "PostgreSQL", budget)
            case _:
                raise MoveRefused(
                    OVER
                    if look.sqlite.authority == "there"
                    else f"there is nothing to roll back: the move is {look.postgresql.phase or 'not under way'}; "
                    "go on with it, or start one"
                )

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
        async with self._postgresql.step("fence", token, "switched") as step:
            await step.keep_vacuum_off()
            self._closed = asyncio.get_running_loop().time()
            await step.fence(budget)

    @goal
    async def complete(self) -> None:
        """End a move that has switched: there is no way back after it. The file stays, and takes no more writes.

        Nothing to do when it was completed already.
        """
        await self._end("there", "switched", "completing")

    @goal
    async def abort(self) -> None:
        """End a move that has not switched: SQLite serves on as before; PostgreSQL is emptied, and stays closed.

        A cut-over that has not decided is called off first. Nothing to do when no move is under way.
        """
        if await self.is_from_before():
            # Its file was restored from a backup that knows nothing of the move: what serves is what it holds.
            await self._leave()
            return
        look = await self.look()
        if look.sqlite.authority != "there" and (
            look.sqlite.authority == "pending" or look.postgresql.phase == "cutting"
        ):
            await self.withdraw()
        await self._end("here", "following", "aborting")

    async def is_from_before(self) -> bool:
        """Whether the file knows nothing of the move, which has not switched: a backup from before it was restored.

        Changes nothing.
        """
        post = await self._postgresql.look()
        # Not by `look`, which finds that the two do not belong together.
        lite = await in_thread(self._sqlite.look)
        return (
            (lite.authority, lite.move, post.authority) == ("here", None, "there")
            and post.phase in ("copying", "following")
            and post.store == lite.store
        )

    async def _leave(self) -> None:
        token = await self._leased()
        async with self._postgresql.step("aborting", token, "copying", "following") as step:
            await step.phase("aborting")
        await self.run()

    async def _end(self, authority: Authority, phase: Phase, ending: Phase) -> None:
        look = await self.look()
        if look.postgresql.phase is None and look.sqlite.authority != authority:
            raise MoveRefused(NO_MOVE if authority == "there" else OVER)
        if look.postgresql.phase not in (None, ending):
            token = await self._leased()
            before: tuple[Phase, ...] = (phase,) if ending == "completing" else ("preparing", "copying", phase)
            if look.sqlite.authority != authority or look.postgresql.phase not in before:
                remedy = (
                    "roll back before you abort it"
                    if look.sqlite.authority == "there" and ending == "aborting"
                    else "cut over before you complete it, or abort it"
                    if look.sqlite.authority == "here" and ending == "completing"
                    else "bring that to its end first, by the command it was begun with"
                )
                raise MoveRefused(f"the move is {look.postgresql.phase}: {remedy}")
            async with self._postgresql.step(ending, token, *before) as step:
                await step.phase(ending)
        await self.run()

    async def _keep_way_back(self) -> None:
        if self._wishes.keep_way_back and self._sqlite.keeps_clear:
            async with self._postgresql.step("keep", await self._leased(), "copying", "following") as step:
                await step.keep_tokens()

    def _measure(self) -> None:
        """Time the steps from now on."""
        self.times.clear()
        self.writes_waited = None


async def _to_the_end(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of a call during which writes wait. A cancelled caller waits for it: it is short, and then decided."""
    task = asyncio.ensure_future(call())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
