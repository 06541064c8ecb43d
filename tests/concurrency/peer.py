"""Another server, in a process of its own: `python -m tests.concurrency.peer ADDRESS`.

It reads one JSON command a line from stdin and answers with one JSON line: `["method", arguments…]` calls that method
of its manager, and `["hammer", …]` validates with many callers at once.
"""

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession
from tests.concurrency.place import Kind, Place, at_most

ROOT = Path(__file__).resolve().parents[2]
# An answer with some hundred tokens is one line.
LINE = 4 * 1024 * 1024


class Peer:
    """The parent's end of such a process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, *command: Any) -> Any:
        """Send one command and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, f"the other process is gone: {await self._process.wait()}"
        return json.loads(line)


@asynccontextmanager
async def peer(place: Place) -> AsyncIterator[Peer]:
    """A process that serves the same store, until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.concurrency.peer", place.kind, place.address),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE,
    )
    try:
        other = Peer(process)
        await other.ask("get_active_session_count")
        yield other
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def journalled(journals: Sequence[Path]) -> tuple[Counter[str], dict[str, int]]:
    """How many validates each session was answered, and the largest `request_count` among those answers."""
    answered: Counter[str] = Counter()
    largest: dict[str, int] = {}
    for journal in journals:
        for line in journal.read_text().splitlines():
            id, count = line.split()
            answered[id] += 1
            largest[id] = max(largest.get(id, 0), int(count))
    return answered, largest


async def hammer(
    sessions: SessionManager, tokens: Sequence[str], calls: int, callers: int, seed: int, journal: str
) -> int:
    """Validate tokens at random; each answer is written down when it has come. How many that were."""
    chance = random.Random(seed)
    answered = 0
    with Path(journal).open("a", buffering=1) as lines:  # noqa: ASYNC230 - before anything waits

        async def validate() -> None:
            nonlocal answered
            session = await sessions.validate_session(chance.choice(tokens))
            if session is not None:
                lines.write(f"{session.id} {session.request_count}\n")
                answered += 1

        await at_most(callers, [validate] * calls)
    return answered


def _plain(answer: Any) -> Any:
    if isinstance(answer, NewSession):
        return {"id": answer.id, "token": answer.token}
    return asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else answer


async def _serve(place: Place) -> None:
    async with place.manager() as sessions:
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, *arguments = json.loads(line)
            answer = await (hammer(sessions, *arguments) if name == "hammer" else getattr(sessions, name)(*arguments))
            sys.stdout.write(json.dumps(_plain(answer), default=str) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Place(cast("Kind", sys.argv[1]), sys.argv[2])))
