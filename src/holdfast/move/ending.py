"""How a move ends: completed on PostgreSQL, or aborted on SQLite."""

from holdfast.move.deciding import Deciding
from holdfast.move.goals import goal
from holdfast.move.state import NO_MOVE, OVER, UNDECIDED, MoveRefused, Phase
from holdfast.move.threads import in_thread
from holdfast.sessions.store import Authority


class Ending(Deciding):
    """The part of a mover that ends a move."""

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
            # Its file was restored from a backup that knows nothing of the move, or has ended it without this database:
            # what serves is what it holds.
            await self._leave()
            return
        look = await self.look()
        if look.sqlite.authority != "there" and (
            look.sqlite.authority == "pending" or look.postgresql.phase == "cutting"
        ):
            await self.withdraw()
        await self._end("here", "following", "aborting")

    async def is_from_before(self) -> bool:
        """Whether the file knows nothing of the move, which has not switched: a backup from before it was restored, or
        the move was ended while this database was lost.

        Changes nothing.
        """
        post = await self._postgresql.look()
        # Not by `look`, which finds that the two do not belong together.
        lite = await in_thread(self._sqlite.look)
        return (
            (lite.authority, lite.move, post.authority) == ("here", None, "there")
            and post.phase in UNDECIDED
            and post.store == lite.store
        )

    async def _leave(self) -> None:
        token = await self._leased()
        if (await self._postgresql.look()).phase == "cutting":
            await self._steps.resume(token)
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
