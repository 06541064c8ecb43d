"""B1: `redis-benchmark` with GETEX, which reads a value and moves its expiry: Redis's nearest to a validate.

Nothing is kept on disk (no append-only file, no snapshots), one hundred connections, no pipelining; two more figures
are shown beside it: sixteen commands in a pipeline, and with each command on the disk before its answer. The load
comes from redis-benchmark, a C program, not from Python.
"""

import asyncio

from benchmarks.callers import Sample
from benchmarks.peers.redis_server import RedisServer
from benchmarks.subject import METADATA

COMMAND = ("GETEX", "key:__rand_int__", "EX", "86400")
VALUE = {"user_id": "user-1", "metadata": METADATA, "request_count": 1, "created_at": "x" * 90}
PIPELINE = 16


class RedisGetex:
    """redis-benchmark against a server that holds as many values as there are sessions."""

    def __init__(self, server: RedisServer, keys: int, what: str, *, pipeline: int = 1) -> None:
        self.name = f"redis-benchmark GETEX, {what}"
        self._server = server
        self._keys = keys
        self._pipeline = pipeline
        # Of the first slice, which nobody looks at: after it the rate is known, for each number of callers.
        self._rates: dict[int, float] = {}

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`. It runs a number of requests that took about as long the last time."""
        requests = max(1_000, int(self._rates.get(callers, 20_000.0) * seconds))
        sample = await asyncio.to_thread(self._server.benchmark, callers, requests, self._keys, self._pipeline, COMMAND)
        self._rates[callers] = sample.per_second
        return sample
