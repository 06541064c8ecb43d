"""Movers that die at a given step: a program that forks a child for each, so that nothing is imported twice.

    python -m tests.move.dying FILE ADDRESS

A line of the input is a method of `Mover`, a comma and the step to die at; a line of the output is how it ended.
"""

import asyncio
import os
import signal
import sys
import traceback
from pathlib import Path

from tests.move.bench import Place


async def pursue(place: Place, goal: str, at: str) -> None:
    """Call one method of a mover, and die at a step of it."""

    def reached(step: str) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    # A process that has just finished another one's decision lets go of it a moment after writes are made again.
    async with place.mover(reached=reached, wait=10.0) as mover:
        await getattr(mover, goal)()


def main(file: str, address: str) -> None:
    """A process for each line."""
    for line in sys.stdin:
        goal, _, at = line.strip().partition(",")
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(pursue(Place(Path(file), address), goal, at))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
