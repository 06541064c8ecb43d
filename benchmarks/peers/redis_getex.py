"""B1: `redis-benchmark` with GETEX, which reads a value and moves its expiry: Redis's nearest to a validate.

Nothing is kept on disk (no append-only file, no snapshots), one hundred connections, no pipelining; a pipelined
figure is shown beside it. The load comes from redis-benchmark, a C program, not from Python.
"""

import asyncio
import csv
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from benchmarks.callers import Sample
from benchmarks.subject import METADATA
from tests.support.ports import LOOPBACK, free_port

CONFIGURATION = ["--bind", LOOPBACK, "--save", "", "--appendonly", "no", "--daemonize", "no"]
PIPELINE = 16
MISSING = (
    "redis-server and redis-benchmark are not on the PATH, so B1 has no peer; install them "
    "(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis) and run again"
)


class RedisGetex:
    """A redis-server of our own, filled with as many values as there are sessions."""

    def __init__(self, server: subprocess.Popen[bytes], port: int, keys: int, pipeline: int = 1) -> None:
        self.name = "redis-benchmark GETEX" + (f", {pipeline} in a pipeline" if pipeline > 1 else "")
        self._server = server
        self._port = port
        self._keys = keys
        self._pipeline = pipeline
        self._rate = 50_000.0 * pipeline

    @staticmethod
    def is_here() -> bool:
        """Whether the programs are on the PATH."""
        return all(shutil.which(name) for name in ("redis-server", "redis-benchmark"))

    @classmethod
    async def start(cls, directory: Path, keys: int) -> Self:
        """Start a server and fill it."""
        port = free_port()
        server = await asyncio.to_thread(_started, directory, port)
        await _fill(port, keys)
        return cls(server, port, keys)

    def pipelined(self) -> "RedisGetex":
        """The same server, asked in a pipeline."""
        return RedisGetex(self._server, self._port, self._keys, PIPELINE)

    def stop(self) -> None:
        """Stop the server; what it held is gone."""
        self._server.terminate()
        self._server.wait(timeout=30)

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`. It runs a number of requests that took about as long the last time."""
        sample = await asyncio.to_thread(self._measure, callers, max(1_000, int(self._rate * seconds)))
        self._rate = sample.per_second
        return sample

    def _measure(self, callers: int, requests: int) -> Sample:
        done = subprocess.run(
            [
                *(
                    "redis-benchmark",
                    "-h",
                    LOOPBACK,
                    "-p",
                    str(self._port),
                    "-c",
                    str(callers),
                    "-P",
                    str(self._pipeline),
                ),
                *("-n", str(requests), "-r", str(self._keys), "--csv"),
                *("GETEX", "key:__rand_int__", "EX", "86400"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        (row,) = csv.DictReader(done.stdout.splitlines())
        return Sample(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def _started(directory: Path, port: int) -> subprocess.Popen[bytes]:
    command = ["redis-server", "--port", str(port), "--dir", str(directory), *CONFIGURATION]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    ping = ["redis-cli", "-h", LOOPBACK, "-p", str(port), "ping"]
    while subprocess.run(ping, check=False, capture_output=True).stdout.strip() != b"PONG":
        assert server.poll() is None, "redis-server did not start"
        assert time.monotonic() < until, "redis-server does not answer"
        time.sleep(0.05)
    return server


async def _fill(port: int, keys: int) -> None:
    value = json.dumps({"user_id": "user-1", "metadata": METADATA, "request_count": 1, "created_at": "x" * 90}).encode()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    for number in range(keys):
        key = b"key:%012d" % number
        writer.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
        if number % 500 == 499:
            await writer.drain()
            await reader.readexactly(5 * 500)
    await reader.readexactly(5 * (keys % 500))
    writer.close()
    await writer.wait_closed()
