"""A process of the old application that writes until it is told to stop, and says what it was told was done.

    python -m tests.move.old_writing FILE TOKENS SEED STOP

It ends once there is a file STOP, with a line of JSON. It knows nothing of Holdfast.
"""

import asyncio
import json
import random
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from tests.legacy.old_application import OldSessionManager


async def start(path: Path, tokens: list[str], seed: int, stop: Path) -> Process:
    """A process that writes already."""
    line = [sys.executable, "-m", "tests.move.old_writing", str(path), ",".join(tokens), str(seed), str(stop)]
    process = await asyncio.create_subprocess_exec(*line, cwd=Path(__file__).parents[2], stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def stopped(processes: list[Process], stop: Path) -> list[dict[str, Any]]:
    """Let them stop; what each of them did."""
    stop.touch()  # noqa: ASYNC240 - the test has nothing else to do
    ends = [await each.communicate() for each in processes]
    assert [each.returncode for each in processes] == [0] * len(processes)
    return [json.loads(out) for out, _ in ends]


def main(path: str, tokens: str, seed: str, stop: str) -> None:
    """Validate, create, extend and delete, as the old application's requests would have it."""
    old, chance, shared = OldSessionManager(path), random.Random(seed), tokens.split(",")
    counted = dict.fromkeys(shared, 0)
    made: list[str] = []
    ended: list[str] = []
    errors: list[str] = []
    print("ready", flush=True)  # noqa: T201 - its answer
    while not Path(stop).exists():
        # Other processes have their turn between two requests.
        time.sleep(0.003)
        try:
            step = chance.random()
            if step < 0.1:
                made.append(old.create_session(f"old-{seed}", {"made": len(made)}))
            elif step < 0.13 and made:
                old.delete_session(made[0])
                ended.append(made.pop(0))
            elif step < 0.16:
                old.extend_session(chance.choice(shared), 24)
            else:
                token = chance.choice(shared)
                counted[token] += old.validate_session(token)
        except sqlite3.Error as error:
            errors.append(str(error))
    print(json.dumps({"counted": counted, "made": made, "ended": ended, "errors": errors}))  # noqa: T201 - as above


if __name__ == "__main__":
    main(*sys.argv[1:])
