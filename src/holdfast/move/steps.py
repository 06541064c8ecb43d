"""The steps of a move, each one transaction in one store, and which one is next.

Every step is safe to take late, twice, or by a mover that was taken over from: the transaction itself finds out. The
store that is left decides, the one that is entered opens last; `tests/move/protocol.py` is the same machine, checked
in every interleaving.
"""

from functools import partial
from typing import NoReturn

from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.rows import SESSIONS, SHAPES, Key
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import Look, StoresDiffer
from holdfast.move.threads import in_thread

Differing = dict[str, list[Key]]
"""Keys of each table whose rows differ."""


class Steps:
    """The steps over two open stores, for a mover that has a token."""

    def __init__(self, sqlite: SqliteSide, postgresql: PostgresqlSide, rows: int) -> None:
        """Keep the two, and how many rows are read and written at once."""
        self._sqlite = sqlite
        self._postgresql = postgresql
        self._rows = rows
        self.moved = 0
        """How many rows were copied or applied, for whoever watches; he may set it back."""
        self.counted = False
        """Whether the numbers of rows were compared a moment ago, so that writes need not wait for that."""
        self._decided: int | None = None

    async def copied(self, look: Look) -> int:
        """How many rows are copied already."""
        if look.postgresql.copied is None and look.postgresql.copying == next(iter(SHAPES)):
            return 0
        counts, done = await in_thread(self._sqlite.counts), 0
        for table, shape in SHAPES.items():
            if table == look.postgresql.copying:
                last = look.postgresql.copied
                return done + (await in_thread(self._sqlite.count_to, shape, shape.of_hex(last)) if last else 0)
            done += counts[table]
        return done

    async def next(self, look: Look, token: int) -> str | None:
        """Take the next step; its name, or `None` when there is none to take at the moment."""
        sqlite, postgresql = look.sqlite, look.postgresql
        match sqlite.authority, postgresql.phase:
            case "here", "preparing":
                return await self._begin(look, token)
            case "here", ("copying" | "following") if look.is_broken:
                return await self._begin(look, token)
            case "here", "copying":
                return await self._copy(look, token)
            case "here", "following":
                return await self._follow(look, token)
            case "here", "cutting":
                return await (self.resume(token) if postgresql.overdue or not sqlite.whole else self._flip(token))
            case "pending", "following":
                return await self.withdraw(token)
            case "pending", "cutting":
                return await (self.withdraw(token) if postgresql.overdue else self._decide(look, token))
            case "there", "cutting":
                return await self._open(look, token)
            case "there", "switched":
                complete, _ = await self.reverse(token, {}) if postgresql.changed else (True, {})
                return None if complete else "reverse"
            case "there", "returning" if postgresql.overdue:
                return await self.stay(token)
            case "there", "returning":
                return await (self._reverse(token) if postgresql.changed else self._give_back(token))
            case "there", "returned":
                return await self._enter(token)
            case "here", "returned":
                async with self._postgresql.step("follow", token, "returned") as step:
                    await step.follow()
                return "follow"
            case _, "aborting" | "completing":
                return await self._remove(look, token)
        return None

    # Towards PostgreSQL

    async def _begin(self, look: Look, token: int) -> str:
        """Put the triggers in, and tell PostgreSQL from which stretch of the log it gets its changes.

        Also after they were lost, or an older copy of the file was put in its place: then nobody knows what was
        changed meanwhile, and all is copied again.
        """
        if not look.sqlite.whole or look.sqlite.capture is None:
            move = look.postgresql.move
            assert move is not None  # noqa: S101 - there is none only without a phase
            await in_thread(self._sqlite.install, move, token)
            return "install"
        async with self._postgresql.step("begin", token, "preparing", "copying", "following") as step:
            await step.begin_copying(look.sqlite.capture)
        return "begin"

    async def _copy(self, look: Look, token: int) -> str:
        shapes = list(SHAPES.values())
        shape = SHAPES[look.postgresql.copying]
        after = None if look.postgresql.copied is None else shape.of_hex(look.postgresql.copied)
        rows = await in_thread(self._sqlite.chunk, shape, after, self._rows)
        to = rows[-1][0] if len(rows) == self._rows else None
        following = shapes[shapes.index(shape) + 1 :]
        async with self._postgresql.step("copy", token, "copying") as step:
            await step.replace(shape, after, to, rows)
            if to is not None:
                await step.copied(shape, to, None)
            elif following:
                await step.copied(shape, None, following[0])
            else:
                await step.analyze()
                await step.phase("following")
        self.moved += len(rows)
        return "copy"

    async def _follow(self, look: Look, token: int) -> str | None:
        if look.postgresql.cursor == look.sqlite.head:
            return None
        complete, _ = await self.apply(look, token, {})
        # Writes go on: there is always something left to apply, and whoever waits for nothing waits for ever.
        return None if complete else "apply"

    async def apply(self, look: Look, token: int, others: Differing) -> tuple[bool, Differing]:
        """Apply a stretch of SQLite's log; whether it was the last, and which of some other keys' rows differ.

        Those are compared with the rows of the very instant at which the stretch was read: once it was the last,
        nothing excuses a difference.
        """
        changes = await in_thread(self._sqlite.changes, look.postgresql.cursor, self._rows, others)
        async with self._postgresql.step("apply", token, "following") as step:
            await step.write(changes.images)
            await step.advanced(changes.cursor)
            found = await step.images(others)
        self.moved += changes.images.size
        return changes.complete, changes.others.differ(self._sqlite.seen(found, changes.others))

    async def count(self, token: int) -> bool | None:
        """Apply a stretch of SQLite's log, and compare the numbers of rows; `None` when it was not the last stretch."""
        cursor = (await self._postgresql.look()).cursor
        changes = await in_thread(partial(self._sqlite.changes, cursor, self._rows, {}, count=True))
        async with self._postgresql.step("apply", token, "following") as step:
            await step.write(changes.images)
            await step.advanced(changes.cursor)
            found = await step.counts() if changes.complete else None
        self.moved += changes.images.size
        return None if found is None else found == changes.counts

    async def _flip(self, token: int) -> str:
        await in_thread(self._sqlite.flip, token)
        return "flip"

    async def resume(self, token: int) -> str:
        """Follow again, the cut-over having been called off."""
        async with self._postgresql.step("resume", token, "cutting") as step:
            await step.resume()
        return "resume"

    async def withdraw(self, token: int) -> str:
        """Let SQLite accept writes again, the decision not having been made."""
        await in_thread(self._sqlite.withdraw, token)
        return "withdraw"

    async def _decide(self, look: Look, token: int) -> str:
        if look.postgresql.settled != look.sqlite.flips:
            return await self._settle(look, token)
        if await self._differs(look):
            await self.withdraw(token)
            await self.resume(token)
            self._refuse_difference("SQLite serves on")
        await in_thread(self._sqlite.decide, token, look.sqlite.flips)
        self._decided = look.sqlite.flips
        return "decide"

    async def _settle(self, look: Look, token: int) -> str:
        """Apply what was written up to the flip. The file is sealed: its rows are the images of that instant."""
        changes = await in_thread(self._sqlite.changes, look.postgresql.cursor, self._rows, {})
        async with self._postgresql.step("settle", token, "cutting") as step:
            await step.write(changes.images)
            await step.advanced(changes.cursor)
            if changes.complete:
                await step.expect_hooks(changes.hooks_expected_at)
                await step.settled(look.sqlite.flips)
        return "settle"

    async def _open(self, look: Look, token: int) -> str:
        # Settled it was before SQLite decided: only a database that was restored since can say otherwise. Not within
        # the moment that has passed since this very mover looked.
        known = self._decided == look.sqlite.flips
        if look.postgresql.settled != look.sqlite.flips or (not known and await self._differs(look)):
            async with self._postgresql.step("renew", token, "cutting"):
                # Or another mover has opened it meanwhile, and clients have written: that is no difference.
                pass
            self._refuse_difference(
                "SQLite has given its authority up, and PostgreSQL does not have all that it held: a backup was put in "
                "its place. Put back the database as it was"
            )
        async with self._postgresql.step("open", token, "cutting") as step:
            await step.open()
        return "open"

    async def _differs(self, look: Look) -> bool:
        """Whether the stores differ in a row that was written since all were compared, or in the number of rows.

        The numbers are left out where they were compared just before: with a million rows that takes longer than
        writes should wait, and whatever is written since is among the rows.
        """
        keys = await in_thread(self._sqlite.touched, look.postgresql.verified or 0)
        for table, all_keys in keys.items():
            for start in range(0, len(all_keys), self._rows):
                some = {table: all_keys[start : start + self._rows]}
                ours = await in_thread(self._sqlite.images, some)
                theirs = self._sqlite.seen(await self._postgresql.images(some), ours)
                if any(ours.differ(theirs).values()):
                    return True
        return not self.counted and await in_thread(self._sqlite.counts) != await self._postgresql.counts()

    def _refuse_difference(self, then: str) -> NoReturn:
        raise StoresDiffer(f"the two stores differ; compare them again. {then}")

    # Back to SQLite

    async def _reverse(self, token: int) -> str:
        await self.reverse(token, {})
        return "reverse"

    async def reverse(self, token: int, others: Differing) -> tuple[bool, Differing]:
        """Take a stretch of PostgreSQL's log to SQLite; the answer is that of `apply`."""
        changes = await self._postgresql.changes(self._rows, others)
        kept = None
        if self._sqlite.keeps_clear:
            kept = await self._postgresql.tokens([row[1] for row in changes.images.rows[SESSIONS.table].values()])
            self._sqlite.kept = kept or {}
        await in_thread(self._sqlite.reverse, changes.images, token)
        found = await in_thread(self._sqlite.images, others)
        async with self._postgresql.step("consume", token, "switched", "returning") as step:
            await step.consumed(changes.entries)
            if kept is not None:
                await step.forget_tokens()
        self.moved += changes.images.size
        return changes.complete, self._sqlite.seen(changes.others, found).differ(found)

    async def _give_back(self, token: int) -> str:
        # After the decision only SQLite can open, and writes would wait for whoever holds the file, or for space.
        await in_thread(self._sqlite.pulse)
        async with self._postgresql.step("give back", token, "returning") as step:
            await step.give_back()
        return "give back"

    async def stay(self, token: int) -> str:
        """Let PostgreSQL accept writes again, the decision to go back not having been made."""
        async with self._postgresql.step("stay", token, "returning") as step:
            await step.stay()
        return "stay"

    async def _enter(self, token: int) -> str:
        await in_thread(self._sqlite.enter, token, await self._postgresql.hooks_expected_at())
        return "enter"

    # The end

    async def _remove(self, look: Look, token: int) -> str:
        if look.sqlite.move is not None:
            await in_thread(self._sqlite.remove, token)
            return "remove"
        async with self._postgresql.step("end", token, "aborting", "completing") as step:
            await step.remove(serves=look.postgresql.phase == "completing")
        return "end"
