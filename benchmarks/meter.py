"""What PostgreSQL did meanwhile: bytes of write-ahead log, and how many updates stayed in their page."""

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.callers import Contender, Sample

# Servers tell their counts at most once a second, and only between two statements.
_COUNTS_ARE_TOLD = 1.5


@dataclass(frozen=True)
class Counts:
    """The server's counters at one moment."""

    log_bytes: int
    updates: int
    in_page: int


class Meter:
    """Counters of one schema's `sessions`, on a connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[Any]", schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def log_bytes(self) -> int:
        """The position in the write-ahead log."""
        position = await self._connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(position)

    async def counts(self) -> Counts:
        """All counters, once those of the last calls are told."""
        await asyncio.sleep(_COUNTS_ARE_TOLD)
        row = await self._connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'sessions'",
            self._schema,
        )
        return Counts(await self.log_bytes(), *(row or (0, 0)))


class Metered:
    """A contender, and how many bytes of log each of its slices wrote for a call."""

    def __init__(self, contender: Contender, meter: Meter) -> None:
        self.name = contender.name
        self.log_bytes: list[float] = []
        self._contender = contender
        self._meter = meter

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        before = await self._meter.log_bytes()
        sample = await self._contender.measure(callers, seconds)
        # A slice lasts a little longer than asked for; its last calls are in the rate too.
        self.log_bytes.append((await self._meter.log_bytes() - before) / (sample.per_second * seconds))
        return sample
