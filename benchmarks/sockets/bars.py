"""Idle sockets, busy sockets, and sockets whose sessions end elsewhere, each measured side by side."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import Child, child
from benchmarks.database import Database
from benchmarks.subject import METADATA
from holdfast import NewSession, SessionManager
from holdfast.sessions.store import StoreOptions
from tests.concurrency.serving import OPERATOR, serving

Measured = dict[str, float]
"""What was measured of one side, by name; times of echoes and closes in milliseconds."""

_CALLERS = 100
# So many are opened and closed before anything is measured: by then every module is loaded and every pool is full.
_WARM = 100


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything."""

    idle_sockets: int
    idle_seconds: float
    idle_rounds: int
    busy_sockets: int
    messages_per_second: float
    busy_seconds: float
    busy_rounds: int
    revocations: int
    revocations_per_second: float


@dataclass(frozen=True)
class Place:
    """A store, and how its servers are told about it."""

    name: str
    address: str
    schema: str | None
    settings: dict[str, str]
    """The environment of `holdfast serve`."""

    @classmethod
    def on_postgresql(cls, database: Database) -> "Place":
        """The schema of this run."""
        settings = {"DATABASE_URL": database.address, "HOLDFAST_SCHEMA": database.schema}
        return cls("postgresql", database.address, database.schema, settings)

    @classmethod
    def on_sqlite(cls, path: Path) -> "Place":
        """A file of this run."""
        return cls("sqlite", f"sqlite:///{path}", None, {"HOLDFAST_SQLITE_PATH": str(path)})

    async def sessions(self, number: int) -> list[NewSession]:
        """So many new sessions, each of another user."""
        options = StoreOptions(upgrade=True) if self.schema is None else StoreOptions(schema=self.schema, upgrade=True)
        made: list[NewSession] = []
        left = iter(range(number))
        async with SessionManager(self.address, sweep_interval=None, options=options) as manager:

            async def caller() -> None:
                for each in left:
                    made.append(await manager.create_session(f"user-{each}", METADATA))  # noqa: PERF401 - shared

            await asyncio.gather(*(caller() for _ in range(_CALLERS)))
        return made

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Child]:
        """A process that echoes behind a guard."""
        schema = () if self.schema is None else ("--schema", self.schema)
        async with child("sockets.server", "--address", self.address, *schema) as server:
            yield server


async def idle(place: Place, scale: Scale) -> list[dict[str, Measured]]:
    """Bytes of each idle socket, unguarded and guarded in turn, each time in a new process: a list of rounds."""
    tokens = [each.token for each in await place.sessions(scale.idle_sockets)]
    rounds = []
    async with child("sockets.crowd") as crowd:
        for _ in range(scale.idle_rounds):
            async with child("sockets.server") as server:
                plain = await _idle(server, crowd, tokens, scale)
            async with place.server() as server:
                guarded = await _idle(server, crowd, tokens, scale)
            rounds.append({"plain": plain, "guarded": guarded})
    return rounds


async def _idle(server: Child, crowd: Child, tokens: Sequence[str], scale: Scale) -> Measured:
    port = await server.ask("port")
    await crowd.ask("open", "warm", port, tokens[:_WARM])
    await crowd.ask("close", "warm")
    before = await server.ask("measure")
    opened = await crowd.ask("open", "idle", port, tokens)
    resting = await server.ask("measure")
    await asyncio.sleep(scale.idle_seconds)
    after = await server.ask("measure")
    await crowd.ask("close", "idle")
    return {
        "bytes_each": (after["memory"] - before["memory"]) / len(tokens),
        "processor_percent": (after["processor_seconds"] - resting["processor_seconds"]) / scale.idle_seconds * 100,
        "handshakes_per_second": opened["per_second"],
    }


async def busy(places: Sequence[Place], scale: Scale) -> list[dict[str, Measured]]:
    """Latencies of echoes, unguarded and guarded on each store in turn, with all servers there: a list of rounds."""
    rounds = []
    async with child("sockets.crowd") as crowd, child("sockets.server") as plain:
        await crowd.ask("open", "plain", await plain.ask("port"), [""] * scale.busy_sockets)
        async with _guarded(places, crowd, scale) as guarded:
            servers = {"plain": plain, **guarded}
            for name, server in servers.items():
                # Once unmeasured.
                await _busy(server, crowd, name, scale, min(1.0, scale.busy_seconds))
            for _ in range(scale.busy_rounds):
                slices = {
                    name: await _busy(server, crowd, name, scale, scale.busy_seconds)
                    for name, server in servers.items()
                }
                rounds.append(slices)
            for name in servers:
                await crowd.ask("close", name)
    return rounds


@asynccontextmanager
async def _guarded(places: Sequence[Place], crowd: Child, scale: Scale) -> AsyncIterator[dict[str, Child]]:
    """A guarded server of each store, with a crowd of its own."""
    if not places:
        yield {}
        return
    first, *others = places
    tokens = [each.token for each in await first.sessions(scale.busy_sockets)]
    async with first.server() as server, _guarded(others, crowd, scale) as more:
        await crowd.ask("open", first.name, await server.ask("port"), tokens)
        yield {first.name: server, **more}


async def _busy(server: Child, crowd: Child, name: str, scale: Scale, seconds: float) -> Measured:
    before = await server.ask("measure")
    found = await crowd.ask("load", name, scale.messages_per_second, seconds)
    after = await server.ask("measure")
    assert found["missing"] == 0, f"{found['missing']} messages have no answer"
    sent = len(found["latencies"])
    return {
        **quantiles(found["latencies"]),
        "late_p99": quantiles(found["late"])["p99"],
        "processor_microseconds": (after["processor_seconds"] - before["processor_seconds"]) / sent * 1e6,
    }


async def ends(place: Place, scale: Scale, directory: Path) -> Measured:
    """Sessions revoked over HTTP on another server: from its answer to the close frame at the client."""
    made = await place.sessions(scale.revocations)
    async with child("sockets.crowd") as crowd, place.server() as server:
        await crowd.ask("open", "ends", await server.ask("port"), [each.token for each in made])
        with serving(directory, f"revoking-{place.name}", "holdfast", "serve", settings=place.settings) as url:
            ids = [each.id for each in made]
            seconds = await crowd.ask("revoke", "ends", url, OPERATOR, ids, scale.revocations_per_second)
    return {**quantiles(seconds), "before_the_answer": sum(each < 0 for each in seconds)}


def quantiles(seconds: Sequence[float]) -> Measured:
    """The middle, the 99th percentile and the longest, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "median": statistics.median(ordered) * 1e3,
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
        "longest": ordered[-1] * 1e3,
    }
