"""The mover of B13: `python -m benchmarks.moving_mover FILE ADDRESS SCHEMA`."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.child import obey
from holdfast import StoreOptions
from holdfast.move.mover import Mover


def resident(what: str) -> float:
    """This process's memory in MB (10^6): `VmRSS` now, or `VmHWM` at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [each for each in lines if each.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024 / 1e6


async def main(file: str, address: str, schema: str) -> None:
    """Pursue what the parent asks for."""
    reached: dict[str, float] = {}
    before = resident("VmRSS")

    def note(step: str) -> None:
        reached[step] = time.monotonic()

    async with Mover(file, address, StoreOptions(schema=schema), reached=note) as mover:

        async def pursue(goal: str) -> dict[str, Any]:
            reached.clear()
            began, worked = time.monotonic(), time.process_time()
            answer = await getattr(mover, goal)()
            ended = time.monotonic()
            assert answer is None or answer.clean, "the stores differ"
            return {
                "began": began,
                "ended": ended,
                "seconds": ended - began,
                "processor_seconds": time.process_time() - worked,
                # The stretch in which nobody takes writes: from the first commit of it to the last.
                "closed": reached.get("flip" if goal == "cut_over" else "fence"),
                "opened": reached.get("open done" if goal == "cut_over" else "enter done"),
                "rows": None if answer is None else answer.rows,
                "steps_seconds": dict(mover.times),
                "resident_mb": resident("VmRSS"),
            }

        async def start() -> dict[str, Any]:
            return await pursue("start")

        async def verify() -> dict[str, Any]:
            return await pursue("verify")

        async def cut_over() -> dict[str, Any]:
            return await pursue("cut_over")

        async def roll_back() -> dict[str, Any]:
            return await pursue("roll_back")

        async def memory() -> dict[str, float]:
            return {"before": before, "peak": resident("VmHWM"), "now": resident("VmRSS")}

        await obey({"start": start, "verify": verify, "cut_over": cut_over, "roll_back": roll_back, "memory": memory})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
