"""The world of a run: servers on real ports, PostgreSQL, the lines between them, and what can be seen of it all."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2
import psutil  # type: ignore[import-untyped]  # its types are a package of their own

from holdfast.sessions.tokens import TOKEN_PATTERN
from tests.chaos.history import History, Rest, Row, Sample, Snapshot
from tests.chaos.limits import READY_WITHIN
from tests.support.polling import INTERVAL, eventually
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import PostgresCluster
from tests.support.proxy import FaultProxy

APPLICATION: Final = "application-credential-of-the-chaos-run"
OPERATOR: Final = "operator-credential-of-the-chaos-run---"
ORIGIN: Final = "https://chaos.example"
GIVE_UP_AFTER: Final = 6 * READY_WITHIN
"""Seconds after which a server that does not serve ends the run."""
COOKIE: Final = "session-insecure-dev"

_ROOT: Final = Path(__file__).parents[2]
_FORBIDDEN: Final = re.compile(rf"Traceback|CRITICAL|never retrieved|never awaited|{TOKEN_PATTERN}")
# asyncpg forgets the future of its request for TLS when the time-out of a connect comes between the two steps of it
# and the connection is then lost. Nothing is left behind but this line.
_HARMLESS: Final = "ConnectionError('unexpected connection_lost() call')"
_SAMPLE_SECONDS: Final = 0.1
_OWN_CONNECTIONS: Final = 9
"""What a server keeps for joined calls and for sockets, besides those that HOLDFAST_CONNECTIONS gives it."""


class ServerProcess:
    """One `holdfast serve`, always at the same port."""

    def __init__(self, number: int, folder: Path, environment: dict[str, str]) -> None:
        """Prepare it; `start` runs it."""
        self.number = number
        self.port = free_port()
        self.log = folder / f"server-{number}.log"
        self._folder = folder
        self._testimony = folder / f"server-{number}.json"
        self._environment = {**environment, "CHAOS_WITNESS": str(self._testimony)}
        self._process: subprocess.Popen[bytes] | None = None
        self._waited = 0.0
        self._waited_before = 0.0

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process, while that runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    async def start(self) -> None:
        """Start it and return when it takes requests."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns once the process exists
                [sys.executable, "-m", "tests.chaos.witness", "serve", "--port", str(self.port)],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._waited_before += self._waited
        self._waited = 0.0
        async with httpx2.AsyncClient(base_url=self.address, timeout=2.0) as client:

            async def serves() -> bool:
                assert self.pid is not None, f"server {self.number} ended:\n{self.log.read_text()[-2000:]}"
                return (await state_of(client)) is not None

            await eventually(serves, what=f"server {self.number} takes requests", deadline=60.0)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained and ended in order."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            await eventually(lambda: process.poll() is not None, what=f"server {self.number} ends", deadline=30.0)
            assert process.returncode == 0, self.log.read_text()[-2000:]

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def waited(self) -> float:
        """How long all its processes so far were ready to run, and had no processor (Linux; elsewhere nothing)."""
        if (pid := self.pid) is not None:
            with suppress(OSError, IndexError):
                self._waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        return self._waited_before + self._waited

    async def rest(self, database: Collection[int]) -> Rest:
        """What it has just now. `database` are the ports of its lines to PostgreSQL."""
        assert self.pid is not None
        self._testimony.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        await eventually(self._testimony.exists, what=f"server {self.number} tells its tasks")
        process = psutil.Process(self.pid)
        lines = [each for each in process.net_connections() if each.raddr]
        there = [each for each in lines if each.raddr.port in database]
        return Rest(
            server=self.number,
            tasks=json.loads(self._testimony.read_text()),
            files=process.num_fds() - len(lines),
            clients=len(lines) - len(there),
            database=len(there),
        )


async def state_of(client: httpx2.AsyncClient) -> dict[str, Any] | None:
    """What `/readyz` says; `None` when nobody answers."""
    try:
        answer: dict[str, Any] = (await client.get("/readyz")).json()
    except (httpx2.TransportError, ValueError):
        return None
    return answer


class World:
    """Everything that runs."""

    def __init__(self, history: History, postgres: PostgresCluster, address: str, folder: Path, count: int) -> None:
        """Prepare it; `running` makes it run. `address` is a migrated database on that PostgreSQL."""
        self.history = history
        self.postgres = postgres
        self.count = count
        self._address = address
        self.store_lines = [FaultProxy(address, seed=number) for number in range(count)]
        self.push_lines = [FaultProxy(address, protocol="raw", seed=number) for number in range(count)]
        self.servers = [ServerProcess(number, folder, self._environment(number, address)) for number in range(count)]
        self._clock_offsets: list[float] = []

    def _environment(self, number: int, address: str) -> dict[str, str]:
        rules = self.history.rules
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "DATABASE_", "SESSION_"))
        }
        return {
            **kept,
            "PYTHONPATH": str(_ROOT),
            "DATABASE_URL": self.store_lines[number].address(address),
            "HOLDFAST_LISTEN_URL": self.push_lines[number].address(address),
            "HOLDFAST_APP_TOKEN": APPLICATION,
            "HOLDFAST_ADMIN_TOKEN": OPERATOR,
            "HOLDFAST_SESSION_TTL_HOURS": str(rules.lifetime / 3600),
            "HOLDFAST_IDLE_TIMEOUT_SECONDS": str(rules.idle),
            "HOLDFAST_MAX_LIFETIME_HOURS": str(rules.max_lifetime / 3600),
            "HOLDFAST_MAX_SESSIONS_PER_USER": str(rules.cap),
            "HOLDFAST_AT_CAP": "evict",
            "HOLDFAST_DEADLINE_SECONDS": str(rules.deadline),
            "HOLDFAST_CONNECTIONS": str(rules.connections - _OWN_CONNECTIONS),
            "HOLDFAST_SWEEP_INTERVAL_SECONDS": "4",
            # In the beginning all socket clients have but a few sessions to choose from.
            "HOLDFAST_SOCKETS_PER_SESSION": "1000",
            "HOLDFAST_SOCKETS_PER_USER": "1000",
            "HOLDFAST_DRAIN_SECONDS": "1",
            "HOLDFAST_GRACEFUL_SECONDS": "5",
            "HOLDFAST_COOKIE_INSECURE": "true",
            "HOLDFAST_ALLOWED_ORIGINS": ORIGIN,
            "HOLDFAST_LOG_LEVEL": "info",
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; at the end stop what still runs, in order."""
        async with AsyncExitStack() as stack:
            for line in (*self.store_lines, *self.push_lines):
                await stack.enter_async_context(line)
            for server in self.servers:
                stack.callback(server.kill)
            await asyncio.gather(*(server.start() for server in self.servers))
            sampling = asyncio.create_task(self._sample())
            stack.callback(sampling.cancel)
            yield

    async def _sample(self) -> None:
        time = asyncio.get_running_loop().time
        due = time()
        while True:
            now = time()
            late = max(0.0, now - due)
            self.history.samples.append(Sample(now, late, tuple(server.waited() for server in self.servers)))
            due = now + _SAMPLE_SECONDS
            # A sample now and then, of a run that takes as long as it takes.
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def serves_again(self, servers: Collection[int]) -> None:
        """Return when these servers say that they serve, and are told of ends.

        Raises `TimeoutError` for one that will not. How long the machine kept it waiting does not count: on a crowded
        one its calls run into their deadlines for a while, and so does the look that tells whether it serves.
        """
        time = asyncio.get_running_loop().time

        async def serves(number: int) -> None:
            server, begun = self.servers[number], time()
            async with httpx2.AsyncClient(base_url=server.address, timeout=2.0) as client:
                while (state := await state_of(client)) is None or not state["ready"] or state["ends"] == "polling":
                    # Another fault may hold it up meanwhile; the checker knows, and judges the time.
                    if time() - begun - self.history.waited(number, begun, time()) > GIVE_UP_AFTER:
                        error = TimeoutError(f"not within {GIVE_UP_AFTER:g} s: server {number} serves again")
                        # The run ends here, without a report: this is all that there will be to understand it by.
                        error.add_note(f"/readyz says {state}; the end of its log:\n{server.log.read_text()[-2000:]}")
                        raise error
                    await asyncio.sleep(INTERVAL)

        await asyncio.gather(*(serves(number) for number in servers))

    # PostgreSQL, asked directly

    @asynccontextmanager
    async def facts(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A connection that no fault but one of PostgreSQL itself concerns."""
        connection = await asyncpg.connect(self._address, server_settings={"application_name": "chaos"})
        try:
            yield connection
        finally:
            connection.terminate()

    async def snapshot(self, why: str) -> None:
        """Write down every stored session."""
        time = asyncio.get_running_loop().time
        async with self.facts() as connection:
            offset = await self._offset(connection)
            begun = time()
            found = await connection.fetch("SELECT * FROM sessions")
            ended = time()
        rows = {str(row["id"]): _row(row, offset) for row in found}
        self.history.snapshots.append(Snapshot(why, begun, ended, rows))

    async def _offset(self, connection: "asyncpg.Connection[Any]") -> float:
        """What to add to the database's time to have this process's: the best of a few comparisons."""
        time = asyncio.get_running_loop().time
        best = (float("inf"), 0.0)
        for _ in range(5):
            before = time()
            now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            after = time()
            best = min(best, (after - before, (before + after) / 2 - now))
        self._clock_offsets.append(best[1])
        spread = max(self._clock_offsets) - min(self._clock_offsets)
        self.history.clock_error = spread
        # All times of a run go by its first comparison, so that no row moves from one snapshot to the next.
        return self._clock_offsets[0]

    def clock(self, epoch: float) -> float:
        """A time that the database said, on this process's clock."""
        return epoch + self._clock_offsets[0]

    async def end_backends(self, share: float) -> None:
        """End some of the servers' connections from PostgreSQL's side, whatever they are doing."""
        async with self.facts() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%' "
                "AND random() < $1::float8",
                share,
            )

    async def count_backends(self) -> dict[str, int]:
        """The servers' connections by state; those in the middle of a call that is just being made count as idle."""
        async with self.facts() as connection:
            rows = await connection.fetch(
                "SELECT CASE WHEN state_change > clock_timestamp() - $1::float8 * interval '1 second' "
                "THEN 'idle' ELSE coalesce(state, 'none') END AS state, count(*) "
                "FROM pg_stat_activity WHERE application_name LIKE 'holdfast%' GROUP BY 1",
                self.history.rules.deadline,
            )
        return {row["state"]: row["count"] for row in rows}

    async def live(self) -> set[str]:
        """The ids of the sessions that live now, by a statement of the test's own."""
        async with self.facts() as connection:
            rows = await connection.fetch(
                "SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at > clock_timestamp() "
                "AND last_activity + $1::float8 * interval '1 second' > clock_timestamp()",
                self.history.rules.idle,
            )
        return {str(row["id"]) for row in rows}

    async def count_live(self) -> int:
        """How many they are."""
        return len(await self.live())

    # The servers, seen from outside

    async def rests(self) -> list[Rest]:
        """What each server has just now."""
        ports = {line.port for line in (*self.store_lines, *self.push_lines)}
        return [await server.rest(ports) for server in self.servers]

    def read_logs(self) -> None:
        """Write down what no log should hold. A token is not repeated."""
        for server in self.servers:
            for line in server.log.read_text(errors="replace").splitlines():
                if _FORBIDDEN.search(line) and _HARMLESS not in line:
                    self.history.lines.append(f"{server.number}: {re.sub(TOKEN_PATTERN, 'a token', line)[:300]}")


def _row(row: Any, offset: float) -> Row:
    def moment(value: Any) -> float:
        return float(value.timestamp()) + offset

    return Row(
        id=str(UUID(str(row["id"]))),
        user=row["user_id"],
        digest=bytes(row["digest"]),
        previous=None if row["previous_digest"] is None else bytes(row["previous_digest"]),
        created=moment(row["created_at"]),
        expires=moment(row["expires_at"]),
        active=moment(row["last_activity"]),
        ended=None if row["ended_at"] is None else moment(row["ended_at"]),
        reason=row["end_reason"],
        count=row["request_count"],
        metadata=json.loads(row["metadata"]),
    )
