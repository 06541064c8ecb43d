"""A process of the old application that writes until it is told to stop, and says what it was told was done.

    python -m tests.move.old_writing FILE TOKENS SEED STOP
    python -m tests.move.old_writing

It ends once there is a file STOP, with a line of JSON. Without arguments it does that again and again: each line of the
input names the four, as JSON, and the seconds between two requests. It knows nothing of Holdfast.
"""

import asyncio
import json
import os
import random
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from tests.legacy.old_application import OldSessionManager, local_now, text

PAUSE = "0.01"
"""Seconds between two requests of an `OldProcess`."""
LONGEST = 1 << 26
"""Bytes of what it did in one line: each session that it made is in it, and each refusal in words."""
ROOT = Path(__file__).parents[2]


async def start(path: Path, tokens: list[str], seed: int, stop: Path) -> Process:
    """A process that writes already."""
    line = [sys.executable, "-m", "tests.move.old_writing", str(path), ",".join(tokens), str(seed), str(stop)]
    process = await asyncio.create_subprocess_exec(*line, cwd=ROOT, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def stopped(processes: list[Process], stop: Path) -> list[dict[str, Any]]:
    """Let them stop; what each of them did."""
    stop.touch()  # noqa: ASYNC240 - the test has nothing else to do
    ends = [await each.communicate() for each in processes]
    assert [each.returncode for each in processes] == [0] * len(processes)
    return [json.loads(out) for out, _ in ends]


class Observant(OldSessionManager):
    """The old application as one that looks whether its statement found the row that it had read before."""

    def validate_session(self, token: str) -> bool:
        """Whether it is live and was counted."""
        if self.get_session(token) is None:
            return False
        counting = "UPDATE sessions SET last_activity = ?, request_count = request_count + 1 WHERE session_id = ?"
        return self._run(counting, text(local_now()), token)[1] > 0


class OldProcess:
    """A process of the old application for one file after another: to start one takes longer than most moves here."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._stop: Path | None = None

    async def write(self, path: Path, tokens: list[str], seed: int) -> None:
        """Let it write until `stopped`; returns when it does."""
        if self._process is None:
            line = [sys.executable, "-m", "tests.move.old_writing"]
            self._process = await asyncio.create_subprocess_exec(
                *line, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=LONGEST
            )
        stop = path.with_name(f"{path.name}-stop")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(path), ",".join(tokens), str(seed), str(stop), PAUSE]).encode())
        self._process.stdin.write(b"\n")
        self._stop = stop
        assert await self._process.stdout.readline() == b"ready\n"

    async def stopped(self) -> dict[str, Any]:
        """Let it stop; what it did. It answers once: whoever asks again, or too early, is not kept waiting."""
        stop, self._stop = self._stop, None
        assert stop is not None, "the old application does not write"
        assert self._process is not None
        assert self._process.stdout is not None
        stop.touch()
        said: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return said

    async def close(self) -> None:
        """End it. Safe to repeat."""
        process, self._process = self._process, None
        if process is not None:
            if self._stop is not None:
                self._stop.touch()
            # With an input, be it empty: else the pipe stays open.
            await process.communicate(b"")


def main(path: str, tokens: str, seed: str, stop: str, pause: str = "0.003") -> None:
    """Validate, create, extend and delete, as the old application's requests would have it."""
    old, chance, shared = Observant(path), random.Random(seed), tokens.split(",")
    counted = dict.fromkeys(shared, 0)
    extended = 0
    made: list[str] = []
    ended: list[str] = []
    errors: list[str] = []
    missed: list[str] = []
    """What was answered as if there were no such session, although nobody ended it."""
    print("ready", flush=True)  # noqa: T201 - its answer
    # A test that was killed cannot say stop.
    parent = os.getppid()
    while not Path(stop).exists() and os.getppid() == parent:
        # Other processes have their turn between two requests.
        time.sleep(float(pause))
        try:
            step = chance.random()
            if step < 0.1:
                made.append(old.create_session(f"old-{seed}", {"made": len(made)}))
            elif step < 0.13 and made:
                if old.delete_session(made[0]):
                    ended.append(made.pop(0))
                else:
                    missed.append("delete")
            elif step < 0.16:
                if old.extend_session(chance.choice(shared), 24):
                    extended += 1
                else:
                    missed.append("extend")
            elif step > 0.99:
                # It is started again.
                old = Observant(path)
            else:
                token = chance.choice(shared)
                if old.validate_session(token):
                    counted[token] += 1
                else:
                    missed.append("validate")
        except sqlite3.Error as error:
            errors.append(str(error))
    said = {"counted": counted, "extended": extended, "made": made, "ended": ended, "errors": errors, "missed": missed}
    print(json.dumps(said), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    if sys.argv[1:]:
        main(*sys.argv[1:])
    else:
        for line in sys.stdin:
            main(*json.loads(line))
