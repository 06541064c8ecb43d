"""B7: plain `sqlite3`, one durable commit per validate.

A copy of the file that Holdfast made, in WAL mode with synchronous=FULL and SQLite's own automatic checkpoints. One
thread calls in a loop: SQLite has one writer, so this is what any number of callers can get at best without joining.
"""

import asyncio
import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.callers import Sample

_STATEMENT = """\
UPDATE sessions SET request_count = request_count + 1, last_activity = max(last_activity, ?1)
WHERE digest = ?2 AND ended_at IS NULL AND expires_at > ?1
RETURNING id, user_id, metadata, created_at, expires_at, last_activity, request_count"""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class SqliteCommit:
    """The peer on its copy."""

    name = "sqlite3, one commit each"

    def __init__(self, source: Path, copy: Path, tokens: Sequence[str]) -> None:
        """Copy the file, and open the copy."""
        self._tokens = tokens
        self._connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
        original = sqlite3.connect(source)
        original.backup(self._connection)
        original.close()
        assert self._connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        self._connection.execute("PRAGMA synchronous = FULL")
        assert self._connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def close(self) -> None:
        """Close the copy."""
        self._connection.close()

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`. With so many callers in a queue each would wait for all; the latency here is one call's."""
        return await asyncio.to_thread(self._measure, seconds)

    def _measure(self, seconds: float) -> Sample:
        latencies: list[float] = []
        began = before = time.perf_counter()
        while before < began + seconds:
            self._validate(random.choice(self._tokens))
            after = time.perf_counter()
            latencies.append(after - before)
            before = after
        return Sample.of(latencies, time.perf_counter() - began)

    def _validate(self, token: str) -> object:
        now = time.time_ns() // 1_000
        ((id, user_id, metadata, *times, count),) = self._connection.execute(
            _STATEMENT, (now, hashlib.sha256(token.encode()).digest())
        ).fetchall()
        created_at, expires_at, last_activity = (_BEGINNING + timedelta(microseconds=each) for each in times)
        return id, user_id, json.loads(metadata)["lang"], created_at, expires_at, last_activity, count
