"""The demonstration itself: what happens one after the other, and how far it is."""

import asyncio
import importlib.util
import json
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from holdfast.demo import own_schema, postgresql, programs
from holdfast.demo.asking import ask
from holdfast.demo.checking import Outcome, compare, write_rows
from holdfast.demo.processes import PYTHON, Children, environment
from holdfast.demo.programs import DemoFailed
from holdfast.move.mover import Mover
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import StoreOptions

State = Literal["running", "done", "failed"]

LIMIT_SECONDS: Final = 120.0
"""It is over by then, one way or another."""
_PACKAGES: Final = ("asyncpg", "websockets", "uvicorn", "fastapi", "prometheus_client")
_START_SECONDS: Final = 30.0
_HOLDS: Final = 6
"""In so many stretches the clients work while nothing else happens."""
_LISTENING: Final = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


@dataclass(slots=True)
class Step:
    """One thing that happens."""

    title: str
    command: str = ""
    """The command with which an operator does it."""
    state: State = "running"
    began: float = 0.0
    """Seconds since the demonstration began."""
    seconds: float = 0.0
    note: str = ""
    """What there is to say about it."""


@dataclass(slots=True)
class Progress:
    """How far it is, for whoever watches. The numbers are what the clients tell meanwhile."""

    steps: list[Step] = field(default_factory=list)
    serving: str = ""
    tally: dict[str, Any] = field(default_factory=dict)


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
            changed: told whenever a step begins or ends, and what the clients tell.
        """
        self._clients = clients
        self._hold_seconds = seconds / _HOLDS
        self._address = address
        self._changed = changed
        self._schema = f"holdfast_demo_{secrets.token_hex(6)}"
        self._credential = secrets.token_urlsafe(32)
        self._began = time.monotonic()
        self.progress = Progress()

    async def run(self, keep: Path | None = None) -> Outcome:
        """Give it. Leaves nothing behind but, in the empty or new folder `keep`, what it was judged by.

        Raises `DemoFailed` when it breaks off.
        """
        for package in _PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise DemoFailed(f"the demonstration needs the package {package}; run: pip install 'holdfast[demo]'")
        try:
            async with asyncio.timeout(LIMIT_SECONDS), Children(programs.own_folder()) as children:
                try:
                    return await self._told(children)
                finally:
                    steps = json.dumps([asdict(step) for step in self.progress.steps], indent=1)
                    (children.folder / "steps.json").write_text(steps, encoding="utf-8")
                    if keep is not None:
                        await asyncio.to_thread(_keep, children.folder, keep)
        except TimeoutError:
            raise DemoFailed(f"it was not over after {LIMIT_SECONDS:g} seconds") from None
        except (HoldfastError, OSError) as error:
            if isinstance(error, DemoFailed):
                raise
            raise DemoFailed(f"it broke off: {error}") from error

    async def _told(self, children: Children) -> Outcome:
        address = self._address
        if address is None:
            with self._step("PostgreSQL starts"):
                address = await postgresql.start(children)
        async with self._own_schema(children, address) as variables:
            with self._step("a server starts, on SQLite", "serve"):
                port = await self._serve(children, variables)
            return await self._with_clients(children, address, variables, port)

    @asynccontextmanager
    async def _own_schema(self, children: Children, address: str) -> AsyncIterator[dict[str, str]]:
        """Make a schema, drop it in the end: what the commands and the server need to know, as variables."""
        variables = environment(
            HOLDFAST_SQLITE_PATH=str(children.folder / "sessions.db"),
            DATABASE_URL=address,
            HOLDFAST_SCHEMA=self._schema,
            SESSION_DB_TYPE="sqlite",
            HOLDFAST_APP_TOKEN=self._credential,
            HOLDFAST_ADMIN_TOKEN=secrets.token_urlsafe(32),
            HOLDFAST_ALLOW_METADATA="true",
            HOLDFAST_BACKUP_DIRECTORY=str(children.folder / "backups"),
            HOLDFAST_DRAIN_SECONDS="0",
            HOLDFAST_DRAIN_DELAY_SECONDS="0",
            NO_COLOR="1",
        )
        children.order("schema", address, self._schema)
        try:
            with self._step("its tables are made", "db upgrade"):
                await own_schema.make(address, self._schema)
            yield variables
        finally:
            await children.stop("clients")
            await children.stop("server")
            await own_schema.drop(address, self._schema)
            children.order("dropped")

    async def _serve(self, children: Children, variables: dict[str, str]) -> int:
        """Start the server and wait until it is ready; its port."""
        await children.start("server", [*PYTHON, "holdfast", "serve", "--port", "0"], variables)
        async with asyncio.timeout(_START_SECONDS):
            while True:
                children.refuse_ended("server")
                listening = _LISTENING.search(children.words("server"))
                if listening is not None:
                    port = int(listening[1])
                    # Between that line and its end nobody may answer.
                    with suppress(OSError):
                        if (await ask(port, "GET", "/readyz")).status == 200:
                            self.progress.serving = "SQLite"
                            return port
                await asyncio.sleep(0.05)

    async def _with_clients(self, children: Children, address: str, variables: dict[str, str], port: int) -> Outcome:
        journals = children.folder / "journals"
        journals.mkdir()
        with self._step(f"{self._clients} clients log in, open sockets"):
            wanted = {
                "port": port,
                "began": self._began,
                "credential": self._credential,
                "clients": self._clients,
                "journals": str(journals),
                "tokens": [],
            }
            clients, say, heard = await children.converse("clients", [*PYTHON, "holdfast.demo.clients"], environment())
            say.write(json.dumps(wanted).encode() + b"\n")
            hearing = asyncio.create_task(self._hear(heard))
            async with asyncio.timeout(_START_SECONDS):
                while self.progress.tally.get("connected", 0) < self._clients:
                    children.refuse_ended("clients")
                    await asyncio.sleep(0.05)
        await self._hold()
        await self._move(variables)
        with self._step("the clients look again, and leave"):
            say.write(b"\n")
            await clients.wait()
            await hearing
            if clients.returncode != 0:
                raise DemoFailed(f"the clients failed: {children.words('clients')}")
            await children.stop("clients")
        with self._step("their journals against the store"):
            rows = await own_schema.rows(address, self._schema)
            write_rows(children.folder / "rows.jsonl", rows)
            return await asyncio.to_thread(compare, journals, rows)

    async def _move(self, variables: dict[str, str]) -> None:
        """What an operator does, by what the commands call: starting a program for each would take longer than it."""
        async with Mover(
            variables["HOLDFAST_SQLITE_PATH"],
            variables["DATABASE_URL"],
            StoreOptions(schema=self._schema),
            backups=Path(variables["HOLDFAST_BACKUP_DIRECTORY"]),
        ) as mover:
            with self._step("all is copied, changes are followed", "move start"):
                await mover.start()
            await self._hold()
            with self._step("every row is compared", "move verify") as step:
                comparison = await mover.verify()
                if not comparison.clean:
                    raise DemoFailed("the comparison found a difference")
                step.note = f"{comparison.rows:,} rows, all equal"
            for title, command, work, serving in (
                ("PostgreSQL takes over", "move cutover", mover.cut_over, "PostgreSQL"),
                ("back to SQLite", "move rollback", mover.roll_back, "SQLite"),
                ("PostgreSQL takes over again", "move cutover", mover.cut_over, "PostgreSQL"),
                ("the way back is given up", "move complete", mover.complete, "PostgreSQL"),
            ):
                with self._step(title, command) as step:
                    await work()
                    if mover.writes_waited is not None and serving != self.progress.serving:
                        step.note = f"writes waited {mover.writes_waited * 1000:,.0f} ms"
                self.progress.serving = serving
                await self._hold()

    async def _hear(self, heard: asyncio.StreamReader) -> None:
        async for line in heard:
            self.progress.tally = json.loads(line)
            self._changed(self.progress)

    async def _hold(self) -> None:
        await asyncio.sleep(self._hold_seconds)

    @contextmanager
    def _step(self, title: str, command: str = "") -> Iterator[Step]:
        began = time.monotonic()
        step = Step(title, command, began=began - self._began)
        self.progress.steps.append(step)
        self._changed(self.progress)
        try:
            yield step
        except BaseException:
            step.state = "failed"
            raise
        else:
            step.state = "done"
        finally:
            step.seconds = time.monotonic() - began
            self._changed(self.progress)


def _keep(folder: Path, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for each in folder.iterdir():
        if each.name == "journals":
            shutil.copytree(each, keep / each.name, dirs_exist_ok=True)
        elif each.suffix in (".log", ".db", ".json", ".jsonl"):
            shutil.copy2(each, keep / each.name)
