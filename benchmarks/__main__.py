"""`make bench`, or `python -m benchmarks`: measure, print one table, write one JSON file."""

import argparse
import asyncio
import dataclasses
import json
import logging
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.callers import Contender
from benchmarks.database import Database, database
from benchmarks.machine import conditions, machine, versions
from benchmarks.peers.asyncpg_update import AsyncpgAlone, AsyncpgUpdate
from benchmarks.peers.redis_getex import MISSING, RedisGetex
from benchmarks.peers.sqlite_commit import SqliteCommit
from benchmarks.report import Finding, Runs, ratios, table
from benchmarks.sockets import run as sockets
from benchmarks.sockets.bars import Scale
from benchmarks.subject import Holdfast, fill
from holdfast import SessionManager
from holdfast.sessions.store import StoreOptions

FOLDER = Path(__file__).parent
VALIDATE_BARS = ("B1", "B2", "B5", "B6", "B7")
QUICK = {"sessions": 200, "callers": 10, "rounds": 1, "seconds": 0.2, "sockets": 300}


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    bars = (*VALIDATE_BARS, *sockets.BARS)
    parser.add_argument("--bars", nargs="+", choices=bars, default=bars, help="only these (default: %(default)s)")
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions in each store (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=100, help="callers at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="one slice of a round (default: %(default)s)")
    parser.add_argument(
        "--sockets", type=int, default=10_000, help="idle sockets; a tenth is busy (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--no-redis", action="store_true", help="leave Redis out")
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="the folder of the JSON file")
    given = parser.parse_args()
    if given.quick:
        vars(given).update(QUICK)
    return given


def scale(options: argparse.Namespace) -> Scale:
    """How many sockets, and for how long: a tenth of the idle ones are busy, and as many are closed."""
    busy = max(1, options.sockets // 10)
    quick = options.quick
    return Scale(
        idle_sockets=options.sockets,
        # Longer than the pause between two looks at every attached session.
        idle_seconds=options.seconds if quick else 6.0,
        idle_rounds=1 if quick else 3,
        busy_sockets=busy,
        messages_per_second=2.0 * busy,
        busy_seconds=options.seconds if quick else 4.0,
        busy_rounds=options.rounds,
        revocations=busy,
        revocations_per_second=50.0,
    )


class Benchmark:
    """The contenders of one run, set up once and measured in turn."""

    def __init__(self, options: argparse.Namespace, stack: AsyncExitStack, directory: Path) -> None:
        self.options = options
        self.stack = stack
        self.directory = directory
        self.contenders: dict[str, tuple[Contender, int]] = {}
        """By the name that the bars use: who, and how many callers."""
        self.notes: list[str] = []
        self.findings: list[Finding] = []
        self.creates: dict[str, float] = {}

    async def add_postgresql(self, place: Database) -> None:
        """Holdfast on PostgreSQL, and raw asyncpg on the same rows."""
        options, callers = self.options, self.options.callers
        store = StoreOptions(schema=place.schema, upgrade=True)
        manager = SessionManager(place.address, sweep_interval=None, options=store)
        sessions = await self.stack.enter_async_context(manager)
        tokens, self.creates["postgresql"] = await fill(sessions, options.sessions, callers)
        subject = Holdfast("Holdfast on PostgreSQL", sessions, tokens)
        moment = min(1.0, options.seconds)
        peer = await AsyncpgUpdate.best(place.address, place.schema, tokens, callers, moment)
        self.stack.push_async_callback(peer.close)
        connection = await asyncpg.connect(place.address)
        self.stack.push_async_callback(connection.close)
        alone = AsyncpgAlone(connection, place.schema, tokens)
        self.notes.append(f"asyncpg is at its best here with a pool of {peer.size}")
        self.contenders |= {"postgresql": (subject, callers), "asyncpg": (peer, callers)}
        self.contenders |= {"postgresql-1": (subject, 1), "asyncpg-1": (alone, 1)}

    async def add_redis(self) -> None:
        """Redis, if it is to be had."""
        if self.options.no_redis:
            self.notes.append("Redis was left out by --no-redis, so B1 has no peer")
        elif not RedisGetex.is_here():
            self.notes.append(MISSING)
        else:
            peer = await RedisGetex.start(self.directory, self.options.sessions)
            self.stack.callback(peer.stop)
            self.contenders["redis-pipelined"] = peer.pipelined(), self.options.callers
            self.contenders["redis"] = peer, self.options.callers

    async def add_sqlite(self) -> None:
        """Holdfast on SQLite, and plain sqlite3 on a copy of its file."""
        path = self.directory / "sessions.db"
        sessions = await self.stack.enter_async_context(SessionManager(path, sweep_interval=None))
        tokens, self.creates["sqlite"] = await fill(sessions, self.options.sessions, self.options.callers)
        self.contenders["sqlite"] = Holdfast("Holdfast on SQLite", sessions, tokens), self.options.callers
        peer = SqliteCommit(path, self.directory / "copy.db", tokens)
        self.stack.callback(peer.close)
        self.contenders["sqlite3"] = peer, 1

    async def run(self) -> Runs:
        """Everybody in turn, round after round, so that a busy moment of the machine meets everybody."""
        runs: Runs = {name: [] for name in self.contenders}
        for contender, callers in self.contenders.values():
            await contender.measure(callers, min(1.0, self.options.seconds))
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", flush=True)
            for name, (contender, callers) in self.contenders.items():
                runs[name].append(await contender.measure(callers, self.options.seconds))
        return runs

    async def measure(self, place: Database) -> dict[str, Any]:
        """Set everybody up and measure; what the file will hold of it."""
        print(f"filling two stores with {self.options.sessions:,} sessions each", flush=True)
        # In this order, so that the two sides of each bar stand side by side in a round.
        await self.add_redis()
        await self.add_postgresql(place)
        await self.add_sqlite()
        runs = await self.run()
        self.findings += [each for each in ratios(runs) if each.name in self.options.bars]
        if "redis-pipelined" in runs:
            rates = sorted(sample.per_second for sample in runs["redis-pipelined"])
            name = self.contenders["redis-pipelined"][0].name
            self.notes.append(f"{name}: {rates[len(rates) // 2]:,.0f}/s")
        made = ", ".join(f"{store} {rate:,.0f}" for store, rate in self.creates.items())
        self.notes.append(f"creates a second while filling: {made}")
        return {
            "creates_per_second": self.creates,
            "contenders": {name: contender.name for name, (contender, _) in self.contenders.items()},
            "samples": {name: [dataclasses.asdict(sample) for sample in samples] for name, samples in runs.items()},
        }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run: print it, and give back what the file will hold."""
    before = machine()
    # Not where temporary files go, which may be memory: these must reach a disk.
    scratch = FOLDER / "scratch"
    scratch.mkdir(exist_ok=True)
    findings: list[Finding] = []
    notes: list[str] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        async with database() as place:
            if set(options.bars) & set(VALIDATE_BARS):
                async with AsyncExitStack() as stack:
                    validates = Benchmark(options, stack, Path(directory))
                    samples |= await validates.measure(place)
                findings += validates.findings
                notes += validates.notes
            if set(options.bars) & set(sockets.BARS):
                done = await sockets.run(options.bars, place, Path(directory), scale(options))
                findings += done.findings
                notes += done.notes
                samples["sockets"] = done.kept
    notes.append(f"load average before {before['load_average']}, after {machine()['load_average']}")
    print(f"\n{table(findings)}\n\n" + "\n".join(notes))
    return {
        "settings": {name: getattr(options, name) for name in QUICK},
        "conditions": conditions(),
        "machine": {**before, "load_average_after": machine()["load_average"]},
        "versions": versions(),
        "postgresql": {"source": place.source, **place.settings},
        **samples,
        "bars": {each.name: each.kept for each in findings},
        "notes": notes,
    }


def main() -> None:
    """Measure, and keep the result."""
    logging.basicConfig(level=logging.ERROR)
    options = arguments()
    if set(options.bars) & set(sockets.BARS):
        sockets.check_room(scale(options))
    result = asyncio.run(measure(options))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
