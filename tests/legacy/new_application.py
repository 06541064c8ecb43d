"""Holdfast in a process of its own, on the old application's file: it writes for a while beside others.

Run as `python -m tests.legacy.new_application PATH TOKENS SECONDS SEED` it prints what it did, as the old one does.
"""

import asyncio
import json
import random
import sys
import time

from holdfast import SessionManager
from holdfast.sessions.errors import HoldfastError

CALLERS = 4


async def main(path: str, shared: list[str], seconds: float, seed: int) -> None:
    """Write for so many seconds; prints the counts acknowledged per token, the tokens made, and what went wrong."""
    counted = dict.fromkeys(shared, 0)
    made: list[str] = []
    ended: list[str] = []
    errors: list[str] = []
    longest = 0.0

    async def call(sessions: SessionManager, chance: random.Random) -> None:
        step = chance.random()
        if step < 0.1:
            made.append((await sessions.create_session(f"new-{seed}", {"made": len(made)})).token)
        elif step < 0.13 and made:
            token = made.pop(0)
            assert await sessions.delete_session(token)
            ended.append(token)
        elif step < 0.16:
            assert await sessions.extend_session(chance.choice(shared), 24)
        else:
            token = chance.choice(shared)
            assert await sessions.validate_session(token)
            counted[token] += 1

    async def caller(sessions: SessionManager, number: int) -> None:
        nonlocal longest
        chance = random.Random(100 * seed + number)
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                await call(sessions, chance)
            except (HoldfastError, AssertionError) as error:
                errors.append(repr(error))
            longest = max(longest, time.monotonic() - began)

    async with SessionManager(path, sweep_interval=0.5) as sessions:
        until = time.monotonic() + seconds
        print("ready", flush=True)  # noqa: T201 - its answer
        await asyncio.gather(*(caller(sessions, number) for number in range(CALLERS)))
    print(json.dumps({"counted": counted, "made": made, "ended": ended, "errors": errors, "longest": longest}))  # noqa: T201 - as above


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2].split(","), float(sys.argv[3]), int(sys.argv[4])))
