"""Processes that move sessions, each of which kills itself when it comes to a step no one before it was killed at.

    python -m tests.move.moving FILE ADDRESS SEEN

SEEN is the list of the points at which a mover was killed already. For each line of the input, a method of `Mover`, a
process is made that has imported everything; how it ended is a line of the output.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tests.move.bench import Place
from tests.move.legacy_place import place_at

ROWS = 100
# Shorter than elsewhere: after each kill it has to run out.
LEASE = timedelta(seconds=0.1)


async def pursue(place: Place, goal: str, reached: Callable[[str], None]) -> None:
    """Call one method of a mover."""
    # The server may not have noticed yet that the one before is dead, and keep its lease for it a moment longer.
    async with place.mover(reached=reached, rows=ROWS, lease=LEASE, wait=10.0) as mover:
        await getattr(mover, goal)()


def killing(seen: Path, goal: str) -> Callable[[str], None]:
    """What kills the process at the first point that is not among those seen."""
    killed = set(seen.read_text().splitlines())

    def reached(step: str) -> None:
        if f"{goal}: {step}" not in killed:
            with seen.open("a") as lines:
                lines.write(f"{goal}: {step}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def main(file: str, address: str, seen: str) -> None:
    """A process for each line."""
    for line in sys.stdin:
        goal = line.strip()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(pursue(place_at(Path(file), address), goal, killing(Path(seen), goal)))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(ended, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
