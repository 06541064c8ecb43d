"""The demonstration itself: what happens, one thing after the other."""

import asyncio
import importlib.util
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from holdfast.demo import own_schema, postgresql, programs
from holdfast.demo.cast import Cast
from holdfast.demo.checking import Outcome, compare, write_rows
from holdfast.demo.processes import Children
from holdfast.demo.programs import DemoFailed
from holdfast.demo.progress import Progress
from holdfast.move.conditions import Wishes
from holdfast.move.mover import Mover
from holdfast.move.state import MoveRefused, StoresDiffer
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import StoreOptions

LIMIT_SECONDS: Final = 110.0
"""It is over by then, one way or another, with some seconds to clear away."""
_QUIET: Final = timedelta(seconds=2)
"""How long the old application has to have been silent before the cut-over; an operator would wait ten seconds."""
_ATTEMPTS: Final = 3
_HOLDS: Final = 7
"""In so many stretches the clients work while nothing else happens."""
_PACKAGES: Final = ("asyncpg", "websockets", "uvicorn", "fastapi", "prometheus_client")


class Story:
    """One run of the demonstration."""

    def __init__(
        self,
        clients: int,
        seconds: float,
        address: str | None = None,
        changed: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Prepare it.

        Args:
            clients: how many of them.
            seconds: how long they work while nothing else happens, all stretches together.
            address: a PostgreSQL database to use instead of a server of its own; it gets a schema, which is dropped.
            changed: told whenever something has changed.
        """
        self._clients = clients
        self._hold_seconds = seconds / _HOLDS
        self._address = address
        self._schema = f"holdfast_demo_{secrets.token_hex(6)}"
        self.progress = Progress(changed)

    async def run(self, keep: Path | None = None) -> Outcome:
        """Give it. Leaves nothing behind but, in the empty or new folder `keep`, what it was judged by.

        Raises `DemoFailed` when it breaks off.
        """
        for package in _PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise DemoFailed(
                    f"the demonstration needs the package {package}; install Holdfast with the extra `demo`"
                )
        try:
            async with asyncio.timeout(LIMIT_SECONDS), Children(programs.own_folder()) as children:
                cast = Cast(children, self.progress, self._clients)
                try:
                    return await self._told(children, cast)
                finally:
                    await cast.stop()
                    if keep is not None:
                        steps = json.dumps([asdict(step) for step in self.progress.steps], indent=1)
                        (children.folder / "steps.json").write_text(steps, encoding="utf-8")
                        cast.keep(keep)
        except TimeoutError:
            raise DemoFailed(f"it was not over after {LIMIT_SECONDS:g} seconds") from None
        except DemoFailed:
            raise
        except (HoldfastError, OSError) as error:
            raise DemoFailed(f"it broke off: {error}") from error

    async def _told(self, children: Children, cast: Cast) -> Outcome:
        step = self.progress.step
        address = self._address
        if address is None:
            with step("PostgreSQL starts"):
                address = await postgresql.start(children)
        async with self._own_schema(children, cast, address):
            with step("an old application writes"):
                tokens = await cast.old_application()
            with step("Holdfast serves the same file", "serve"):
                await cast.server(address, self._schema)
            with step(f"{self._clients} clients open sockets"):
                await cast.clients(tokens)
            await self._hold()
            await self._move(cast, address)
            with step("the clients look again, leave"):
                await cast.part()
            with step("their journals against the store"):
                rows = await own_schema.rows(address, self._schema)
                write_rows(children.folder / "rows.jsonl", rows)
                return await asyncio.to_thread(compare, cast.journals, rows)

    @asynccontextmanager
    async def _own_schema(self, children: Children, cast: Cast, address: str) -> AsyncIterator[None]:
        children.order("schema", address, self._schema)
        try:
            with self.progress.step("its tables are made", "db upgrade"):
                await own_schema.make(address, self._schema)
            yield
        finally:
            await cast.stop()
            await own_schema.drop(address, self._schema)
            children.order("dropped")

    async def _move(self, cast: Cast, address: str) -> None:
        """What an operator does, by what the commands call: starting a program for each would take longer than it."""
        step = self.progress.step
        async with Mover(
            cast.file,
            address,
            StoreOptions(schema=self._schema),
            backups=cast.backups,
            wishes=Wishes(quiet=_QUIET),
        ) as mover:
            with step("all copied, changes followed", "move start"):
                await mover.start()
            await self._hold()
            with step("the old application is retired"):
                await cast.retire()
            await self._hold(_QUIET.total_seconds() + 0.5)
            with step("every row is compared", "move verify") as verifying:
                comparison = await mover.verify()
                if not comparison.clean:
                    raise DemoFailed("the comparison found a difference")
                verifying.note = f"{comparison.rows:,} rows, all equal"
            for title, command, work, serving in (
                ("PostgreSQL takes over", "move cutover", mover.cut_over, "PostgreSQL"),
                ("back to SQLite", "move rollback", mover.roll_back, "SQLite"),
                ("PostgreSQL takes over again", "move cutover", mover.cut_over, "PostgreSQL"),
                ("the way back is given up", "move complete", mover.complete, "PostgreSQL"),
            ):
                with step(title, command) as going:
                    called_off = await with_patience(work)
                    if mover.writes_waited is not None and serving != self.progress.serving:
                        going.note = f"writes waited {mover.writes_waited * 1000:,.0f} ms"
                    if called_off:
                        going.note += f", called off before: {called_off}"
                self.progress.serving = serving
                await self._hold()

    async def _hold(self, at_least: float = 0.0) -> None:
        await asyncio.sleep(max(self._hold_seconds, at_least))


async def with_patience(work: Callable[[], Awaitable[None]], pause: float = 1.0) -> int:
    """Do it, and again where it was called off, as an operator on a busy machine; how often it was called off.

    Raises `MoveRefused` when that was too often, and `StoresDiffer` at once.
    """
    for called_off in range(_ATTEMPTS - 1):
        try:
            await work()
        except StoresDiffer:
            raise
        except MoveRefused:
            await asyncio.sleep(pause)
        else:
            return called_off
    await work()
    return _ATTEMPTS - 1
