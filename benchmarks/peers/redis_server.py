"""A redis-server of a run's own, for every peer that needs one."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from benchmarks.callers import SPECTRUM, Sample
from benchmarks.peers.missing import PeerMissing
from tests.support.ports import LOOPBACK, free_port

FORGETFUL = ("--save", "", "--appendonly", "no")
"""Nothing on disk: as fast as Redis goes."""
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""Each write is on the disk when its answer comes, as Holdfast promises; by default Redis writes once a second."""
MISSING = (
    "redis-server and redis-benchmark are not on the PATH, so what compares with Redis has no peer; install them "
    "(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis) and run again"
)


class RedisServer:
    """A server on a free port; what it held is gone when it stops."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    @classmethod
    def start(cls, directory: Path, configuration: tuple[str, ...]) -> Self:
        """Start it and wait until it answers; blocks. Raises `PeerMissing`."""
        if not all(shutil.which(name) for name in ("redis-server", "redis-benchmark", "redis-cli")):
            raise PeerMissing(MISSING)
        directory.mkdir(exist_ok=True)
        port = free_port()
        command = ["redis-server", "--port", str(port), "--dir", str(directory), "--bind", LOOPBACK, *configuration]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        ping = ["redis-cli", "-h", LOOPBACK, "-p", str(port), "ping"]
        while subprocess.run(ping, check=False, capture_output=True).stdout.strip() != b"PONG":
            assert process.poll() is None, "redis-server did not start"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.05)
        return cls(process, port)

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(timeout=30)

    def fill(self, keys: int, value: object) -> None:
        """Put the same value under `key:000000000000` and so on, as redis-benchmark names them; blocks."""
        text = json.dumps(value).encode()
        lines = b"".join(
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n" % (number, len(text), text)
            for number in range(keys)
        )
        command = ["redis-cli", "-h", LOOPBACK, "-p", str(self.port), "--pipe"]
        done = subprocess.run(command, input=lines, check=True, capture_output=True)
        assert b"errors: 0" in done.stdout, done.stdout

    def benchmark(self, callers: int, requests: int, keys: int, pipeline: int, command: tuple[str, ...]) -> Sample:
        """What redis-benchmark says of so many requests; blocks."""
        done = subprocess.run(
            [
                *("redis-benchmark", "-h", LOOPBACK, "-p", str(self.port), "-c", str(callers), "-P", str(pipeline)),
                *("-n", str(requests), "-r", str(keys), *command),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        return _told(done.stdout)


def _told(report: str) -> Sample:
    """The sample in redis-benchmark's report: two tables of percentiles at steps of its own, and a summary."""
    lines = report.replace("\r", "\n").splitlines()
    steps: list[tuple[float, float]] = []
    for line in lines:
        share, found, rest = line.partition("% <= ")
        if found:
            steps.append((float(rest.split()[0]), float(share)))
    steps.sort()
    most = max(share for _, share in steps)
    spectrum = tuple(next(latency for latency, share in steps if share >= min(each, most)) for each in SPECTRUM)
    rate = next(float(line.split()[2]) for line in lines if "throughput summary:" in line)
    summary = next(lines[at + 2].split() for at, line in enumerate(lines) if "latency summary" in line)
    return Sample(rate, float(summary[2]), float(summary[4]), spectrum)
