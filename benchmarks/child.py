"""A process that does what it is told in lines of JSON, and the parent's end of it.

Servers and clients of a run have a process each: what one of them costs must not be measured in the other.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The tokens of ten thousand sessions are one line, and so are ten thousand latencies.
_LINE = 16 * 1024 * 1024

Commands = Mapping[str, Callable[..., Awaitable[Any]]]


class Child:
    """The parent's end."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Give one command and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, f"a process of the run is gone: {await self._process.wait()}"
        return json.loads(line)


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """A module of the benchmarks that runs `obey`, in a process of its own, until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{module}", *arguments),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE,
    )
    try:
        yield Child(process)
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def obey(commands: Commands) -> None:
    """The child's end: do what each line says until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        answer = await commands[name](*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
