"""A process that validates, as an application's would: `python -m benchmarks.loader --address … --schema …`.

It draws uniformly from all sessions of a schema that `rows.add_rows` filled.
"""

import argparse
import asyncio
import dataclasses
import gc
import statistics
import time
from typing import Any

import psutil  # type: ignore[import-untyped]  # its types are a package of their own

from benchmarks.child import obey
from benchmarks.crowded import HoldfastUniform
from benchmarks.sweeping import beside_sweep
from holdfast import SessionManager
from holdfast.sessions.store import StoreOptions

_COUNTS = 3


class Loader:
    """One manager, and what it can be told."""

    def __init__(self, sessions: SessionManager, rows: int) -> None:
        self._sessions = sessions
        self._subject = HoldfastUniform("Holdfast", sessions, rows)

    async def measure(self, callers: int, seconds: float) -> dict[str, Any]:
        """A slice of validates."""
        return dataclasses.asdict(await self._subject.measure(callers, seconds))

    async def memory(self) -> int:
        """Resident bytes of this process, its garbage collected."""
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    async def count(self) -> dict[str, float]:
        """How many sessions live, exactly, and how many milliseconds it takes to find out."""
        took, found = [], 0
        for _ in range(_COUNTS):
            began = time.perf_counter()
            found = await self._sessions.get_active_session_count()
            took.append((time.perf_counter() - began) * 1e3)
        return {"sessions": found, "milliseconds": statistics.median(took)}

    async def sweep(self, callers: int, seconds: float, rounds: int) -> dict[str, Any]:
        """Validates before, beside and after a sweep."""
        return dataclasses.asdict(await beside_sweep(self._sessions, self._subject, callers, seconds, rounds))


async def main() -> None:
    """Open the store and do what the parent says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--rows", type=int, required=True)
    given = parser.parse_args()
    # The exact count of ten million rows may take longer than a call's usual deadline.
    options = StoreOptions(schema=given.schema, deadline=120)
    async with SessionManager(given.address, sweep_interval=None, options=options) as sessions:
        loader = Loader(sessions, given.rows)
        await obey({name: getattr(loader, name) for name in ("measure", "memory", "count", "sweep")})


if __name__ == "__main__":
    asyncio.run(main())
