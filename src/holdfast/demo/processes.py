"""The processes that the demonstration starts: none outlives it, and none sees a setting of this machine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

from holdfast.demo.programs import Account, DemoFailed
from holdfast.settings import process_environment

PYTHON: Final = (sys.executable, "-m")
_START_SECONDS: Final = 40.0
_STOP_SECONDS: Final = 10.0
_LAST_WORDS: Final = 2000


def environment(**own: str) -> dict[str, str]:
    """What a process needs to run, and these, but nothing that names the stores of this machine."""
    strangers = ("HOLDFAST_", "PG", "DATABASE_URL", "SESSION_DB_TYPE")
    kept = {
        name: value
        for name, value in process_environment().items()
        if value is not None and not name.startswith(strangers)
    }
    return {**kept, **own}


class Children:
    """What was started. `async with` ends all of it, last started first."""

    def __init__(self, folder: Path) -> None:
        """`folder` is deleted at the end; the output of each process goes to a file in it."""
        self.folder = folder
        self._running: dict[str, tuple[asyncio.subprocess.Process, int]] = {}
        self._watchdog: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Start the watchdog."""
        self._watchdog = subprocess.Popen(  # noqa: ASYNC220 - it is to outlive the event loop
            [*PYTHON, "holdfast.demo.watchdog"],
            cwd="/",
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.order("folder", str(self.folder))
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything, and let the watchdog see to what is left."""
        for name in reversed(list(self._running)):
            with suppress(Exception):
                await self.stop(name)
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            await asyncio.to_thread(self._watchdog.wait)

    def order(self, *order: Any) -> None:
        """Tell the watchdog."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.write(json.dumps(order).encode() + b"\n")
            self._watchdog.stdin.flush()

    async def start(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        ending: signal.Signals = signal.SIGTERM,
        user: Account | None = None,
        speaks: bool = False,
    ) -> asyncio.subprocess.Process:
        """Start a process that runs until `stop`, which sends it the signal `ending`.

        One that `speaks` has pipes to its standard input and output.
        """
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await self._spawn(command, variables, log, user, speaks=speaks)
        self._running[name] = process, ending
        self.order("process", process.pid, int(signal.SIGQUIT if ending is signal.SIGINT else signal.SIGKILL))
        return process

    async def _spawn(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        log: IO[bytes],
        user: Account | None,
        *,
        speaks: bool,
    ) -> asyncio.subprocess.Process:
        pipe = subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command,
            cwd="/" if user is not None else self.folder,
            env=dict(variables),
            stdin=pipe if speaks else subprocess.DEVNULL,
            stdout=pipe if speaks else log,
            stderr=log,
            start_new_session=True,
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        )

    async def converse(
        self, name: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> tuple[asyncio.subprocess.Process, asyncio.StreamWriter, asyncio.StreamReader]:
        """As `start`, for a process that is spoken to and speaks."""
        process = await self.start(name, command, variables, speaks=True)
        if process.stdin is None or process.stdout is None:
            raise DemoFailed(f"{name} has no pipes")
        return process, process.stdin, process.stdout

    async def run(
        self, name: str, command: Sequence[str], variables: Mapping[str, str], user: Account | None = None
    ) -> str:
        """Run a command to its end; what it printed. Raises `DemoFailed` with its last words."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd="/" if user is not None else self.folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        )
        self.order("process", process.pid, int(signal.SIGKILL))
        try:
            printed, complaints = await process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        finally:
            self.order("gone", process.pid)
        with (self.folder / "commands.log").open("ab") as log:
            log.write(f"$ {name}\n".encode() + printed + complaints)
        if process.returncode != 0:
            raise DemoFailed(f"{name} failed ({process.returncode}): {complaints.decode(errors='replace').strip()}")
        return printed.decode()

    def words(self, name: str) -> str:
        """What a process wrote, the end of it if it is much."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-_LAST_WORDS:].strip()

    def refuse_ended(self, name: str) -> None:
        """Raise `DemoFailed` when a process that should run does not."""
        process, _ = self._running[name]
        if process.returncode is not None:
            raise DemoFailed(f"{name} ended by itself ({process.returncode}): {self.words(name)}")

    async def until(self, name: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that a process does when it starts. Raises `DemoFailed` when it ends or takes too long."""
        until = time.monotonic() + _START_SECONDS
        while not await holds():
            self.refuse_ended(name)
            if time.monotonic() > until:
                raise DemoFailed(f"{name} was not ready after {_START_SECONDS:g} seconds: {self.words(name)}")
            await asyncio.sleep(0.05)

    async def ended(self, name: str) -> None:
        """Wait until a process has ended by itself. Raises `DemoFailed` when that was no success."""
        process, _ = self._running[name]
        if await process.wait() != 0:
            raise DemoFailed(f"{name} failed ({process.returncode}): {self.words(name)}")

    async def stop(self, name: str) -> None:
        """Ask a process to end and wait until it has. Safe to repeat."""
        if name not in self._running:
            return
        process, ending = self._running.pop(name)
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, ending)
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        self.order("gone", process.pid)
