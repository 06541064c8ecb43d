"""Who takes part: the old application, the server and the clients, each in a process of its own."""

import asyncio
import json
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from holdfast.demo.asking import ask
from holdfast.demo.journal import OLD_APPLICATION
from holdfast.demo.processes import PYTHON, Children, environment
from holdfast.demo.progress import Progress

_AT_REST: Final = 20
"""Sessions of the old application that nobody uses meanwhile, for each client."""
_LISTENING: Final = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


class Cast:
    """Starts and stops them."""

    def __init__(self, children: Children, progress: Progress, clients: int) -> None:
        """Nobody is there yet."""
        self._children = children
        self._progress = progress
        self._clients = clients
        self._credential = secrets.token_urlsafe(32)
        self._port = 0
        self._hearing: asyncio.Task[None] | None = None
        self._say: asyncio.StreamWriter | None = None
        self.file = children.folder / "sessions.db"
        self.backups = children.folder / "backups"
        self.journals = children.folder / "journals"
        self.journals.mkdir()

    async def old_application(self) -> list[str]:
        """Start it on a new file; the tokens of the sessions that it began for half of the clients."""
        known = self._clients // 2
        journal = self.journals / f"{OLD_APPLICATION}.jsonl"
        arguments = [str(self.file), str(journal), str(self._progress.began), str(_AT_REST * self._clients), str(known)]
        process, _, heard = await self._children.converse(
            OLD_APPLICATION, [*PYTHON, "holdfast.demo.old_application", *arguments], environment()
        )
        line = await heard.readline()
        if not line:
            # It has ended, or is about to.
            await process.wait()
            self._children.refuse_ended(OLD_APPLICATION)
        tokens: list[str] = json.loads(line)
        return tokens

    async def retire(self) -> None:
        """Stop the old application, in order: it finishes its write."""
        self._children.refuse_ended(OLD_APPLICATION)
        await self._children.stop(OLD_APPLICATION)

    async def server(self, address: str, schema: str) -> None:
        """Start the server with both stores named, and wait until it is ready."""
        variables = environment(
            HOLDFAST_SQLITE_PATH=str(self.file),
            DATABASE_URL=address,
            HOLDFAST_SCHEMA=schema,
            SESSION_DB_TYPE="sqlite",
            HOLDFAST_APP_TOKEN=self._credential,
            HOLDFAST_ADMIN_TOKEN=secrets.token_urlsafe(32),
            HOLDFAST_ALLOW_METADATA="true",
            HOLDFAST_DRAIN_SECONDS="0",
            HOLDFAST_DRAIN_DELAY_SECONDS="0",
        )
        await self._children.start("server", [*PYTHON, "holdfast", "serve", "--port", "0"], variables)
        await self._children.until("server", self._ready)
        self._progress.serving = "SQLite"

    async def _ready(self) -> bool:
        if not self._port:
            # Once only: the server's last words are soon the answers to this question.
            listening = _LISTENING.search(self._children.words("server"))
            if listening is None:
                return False
            self._port = int(listening[1])
        # Between that line and its end nobody may answer.
        with suppress(OSError):
            return (await ask(self._port, "GET", "/readyz")).status == 200
        return False

    async def clients(self, tokens: list[str]) -> None:
        """Start the clients and wait until each has its socket. The first of them bring these tokens."""
        wanted = {
            "port": self._port,
            "began": self._progress.began,
            "credential": self._credential,
            "clients": self._clients,
            "journals": str(self.journals),
            "tokens": tokens,
        }
        _, self._say, heard = await self._children.converse(
            "clients", [*PYTHON, "holdfast.demo.clients"], environment()
        )
        self._say.write(json.dumps(wanted).encode() + b"\n")
        self._hearing = asyncio.create_task(self._hear(heard))
        await self._children.until("clients", self._connected)

    async def _connected(self) -> bool:
        return bool(self._progress.tally.get("connected", 0) >= self._clients)

    async def _hear(self, heard: asyncio.StreamReader) -> None:
        async for line in heard:
            tally: dict[str, Any] = json.loads(line)
            self._progress.heard(tally)

    async def part(self) -> None:
        """Let the clients look once more and leave. Raises `DemoFailed` when they did not come to their end."""
        if self._say is not None and self._hearing is not None:
            self._say.write(b"\n")
            await self._hearing
            await self._children.ended("clients")

    async def stop(self) -> None:
        """Stop whoever is there, in the order in which nobody misses anybody. Safe to repeat."""
        for name in ("clients", "server", OLD_APPLICATION):
            await self._children.stop(name)

    def keep(self, keep: Path) -> None:
        """Copy what the result can be found from again."""
        keep.mkdir(parents=True, exist_ok=True)
        for each in (self._children.folder, self.journals):
            (keep / each.relative_to(self._children.folder)).mkdir(exist_ok=True)
            for file in each.iterdir():
                if file.suffix in (".log", ".db", ".json", ".jsonl"):
                    target = keep / file.relative_to(self._children.folder)
                    target.write_bytes(file.read_bytes())
