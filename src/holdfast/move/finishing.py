"""Finishes a decision that its mover died in, or takes it back: so that no write waits for somebody to notice.

Any process that follows a move may do it, when writes have waited longer than a living mover lets them. It takes the
same steps as a mover, under a lease and a token of its own, so that one that only slept finds out. What it cannot do
without the other store is to go on; then it steps back, as long as the store that is left has not decided.
"""

import asyncio
import logging
import os
from datetime import timedelta
from typing import Final

from holdfast.move.addresses import addresses
from holdfast.move.failures import whose
from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.running import Running, nowhere
from holdfast.move.sides import sqlite_side
from holdfast.move.state import DECIDED, LeaseHeld, Look, MoveRefused
from holdfast.move.threads import in_thread
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql.failures import to_raise
from holdfast.sql.sqlite_file import refuse_strange

_LEASE: Final = timedelta(seconds=3)
_ATTEMPT_SECONDS: Final = 5.0
WITHDRAW_AFTER_SECONDS: Final = 3.0
"""Beyond the budget of a cut-over: by then its mover would have called it off."""
STAY_AFTER_SECONDS: Final = 6.0
"""Beyond the lease of a mover that went on until SQLite was lost."""

log = logging.getLogger("holdfast.move")


class Finisher:
    """What one process does about a move that does not come to its decision."""

    def __init__(
        self,
        sqlite: str | os.PathLike[str],
        postgresql: str,
        options: StoreOptions,
        *,
        withdraw_after: float = WITHDRAW_AFTER_SECONDS,
        stay_after: float = STAY_AFTER_SECONDS,
    ) -> None:
        """Prepare it; touches nothing yet. Raises `MoveRefused` unless it is a SQLite file and PostgreSQL.

        Args:
            sqlite: the file.
            postgresql: the database.
            options: the schema, and whether a pooler stands in front of it.
            withdraw_after: for how many seconds writes have waited when a cut-over is taken back without PostgreSQL.
            stay_after: and when a roll-back is taken back without SQLite.
        """
        left, entered = addresses(sqlite, postgresql)
        self._addresses = (sqlite, postgresql)
        self._path, self._database = left.path, entered
        self._options = options
        self._withdraw_after = withdraw_after
        self._stay_after = stay_after
        self._said = ""

    async def stale(self) -> str | None:
        """Why the SQLite file must not serve, although it says that it may; `None` when it may.

        After PostgreSQL gave the authority up, a file that was put back from a backup looks like one that took it.
        Raises `StoreUnavailable` when it cannot be seen.
        """
        running = _Finishing(*self._addresses, self._options, lease=_LEASE)
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS), running:
                return await running.stale()
        except Exception as error:
            raise StoreUnavailable(
                f"it cannot be seen whether the SQLite file is the right one: {to_raise(error, 'a store of the move')}"
            ) from error

    async def finish(self, waited: float) -> None:
        """Bring it to an end, after writes have waited for so many seconds. Safe to repeat.

        Raises nothing but `CancelledError`. A mover that lives is left alone.
        """
        try:
            await self._go_on()
        except LeaseHeld:
            return
        except Exception as error:
            failure = to_raise(error, whose(error))
            if str(failure) != self._said:
                self._said = str(failure)
                log.warning("writes wait for a move to decide, and this process cannot finish it: %s", failure)
            if waited >= self._withdraw_after and await self._withdrawn():
                log.warning("the cut-over was taken back: SQLite accepts writes again")
            elif waited >= self._stay_after and await self._stayed():
                log.warning("the roll-back was taken back: PostgreSQL accepts writes again")

    async def _go_on(self) -> None:
        """Take steps until writes wait no more. Raises what a step raises, and `TimeoutError` for a silent server."""
        running = _Finishing(*self._addresses, self._options, lease=_LEASE)
        work = asyncio.create_task(running.finish(), name="holdfast-finish")
        try:
            await asyncio.wait((work,), timeout=_ATTEMPT_SECONDS)
        finally:
            silent = not work.done()
            if silent:
                running.break_off()
                work.cancel()
            [outcome] = await asyncio.gather(work, return_exceptions=True)
        if silent:
            raise TimeoutError("PostgreSQL does not answer")
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome:
            self._said = ""
            log.warning("a move was left in the middle of a decision; this process went on with it: %s", outcome)

    async def _withdrawn(self) -> bool:
        """Let SQLite accept writes again, if it has not decided; whether it did."""
        side = sqlite_side(self._path, self._options, nowhere, "quarantine")
        try:
            # One that is lost must not be made anew.
            refuse_strange(self._path)
            await in_thread(side.open)
            await in_thread(side.withdraw, None)
        except Exception as error:
            log.debug("there was no cut-over to take back: %s", to_raise(error, "the SQLite file"))
            return False
        finally:
            await in_thread(side.close)
        return True

    async def _stayed(self) -> bool:
        """Let PostgreSQL accept writes again, if it has not given its authority up; whether it did."""
        side = PostgresqlSide(self._database, self._options, nowhere, _LEASE)
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                token = await side.take_lease("a process that follows")
                async with side.step("stay", token, "returning") as step:
                    await step.stay()
                await side.release_lease(token)
        except Exception as error:
            log.debug("there was no roll-back to take back: %s", to_raise(error, "PostgreSQL"))
            return False
        finally:
            await side.close()
        return True


class _Finishing(Running):
    """The steps of a mover, as far as writes wait for them."""

    def break_off(self) -> None:
        """Let whatever waits for PostgreSQL fail."""
        self._postgresql.break_off()

    async def stale(self) -> str | None:
        """Why the file is not the one that PostgreSQL knows, once it has had the authority; `None` when it is."""
        try:
            await self.look()
        except MoveRefused as refusal:
            return str(refusal) if (await self._postgresql.look()).phase in DECIDED else None
        return None

    async def finish(self) -> str:
        """Take them; their names. Raises what a step raises."""
        taken: list[str] = []
        async with self:
            while _waits(look := await self.look()):
                phase = look.postgresql.phase
                if look.sqlite.authority == "pending" and (phase != "cutting" or look.postgresql.overdue):
                    # Without a lease: its mover may sleep in a transaction, and has used up its time.
                    await in_thread(self._sqlite.withdraw, None)
                    taken.append("withdraw")
                    continue
                step = await self.advance()
                if step is None:
                    break
                taken.append(step)
        return ", ".join(taken)


def _waits(look: Look) -> bool:
    """Whether neither store accepts writes, or the one that does is not told so yet."""
    where = look.sqlite.authority, look.postgresql.phase
    return where[0] == "pending" or where in (
        ("there", "cutting"),
        ("there", "returning"),
        ("there", "returned"),
        ("here", "returned"),
    )
