"""One run: every part that is asked for, one after the other on one database, and one table of what was found."""

import argparse
import statistics
import tempfile
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.arguments import FOLDER, QUICK
from benchmarks.crowded import crowded
from benchmarks.database import Database, database
from benchmarks.machine import conditions, machine, versions
from benchmarks.moving import moving
from benchmarks.parts import CURVE, MOVE, ROWS, SOCKETS, SWEEP, VALIDATES
from benchmarks.report import Finding, table
from benchmarks.scaling import scaling
from benchmarks.setting import Setting
from benchmarks.sockets import run as sockets
from benchmarks.sockets.bars import Scale
from benchmarks.sweeping import sweeping
from benchmarks.validates import Ring, kept_of, validates


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


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run: print it, and give back what the file will hold."""
    before = machine()
    # Not where temporary files go, which may be memory: these must reach a disk.
    scratch = FOLDER / "scratch"
    scratch.mkdir(exist_ok=True)
    run = _Run(options)
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        async with database() as place:
            if options.only:
                await run.alone(place, Path(directory))
            elif options.scale:
                await run.sizes(place, Path(directory))
            else:
                await run.bars(place, Path(directory))
    after = machine()["load_average"]
    run.notes.append(f"load average before {before['load_average']}, after {after}")
    if run.findings:
        print(f"\n{table(run.findings)}")
    print("\n" + "\n".join(run.notes))
    return {
        "settings": {name: getattr(options, name) for name in QUICK},
        "conditions": conditions(),
        "machine": {**before, "load_average_after": after},
        "versions": versions(),
        "postgresql": {"source": place.source, **place.settings},
        **run.kept,
        "bars": {each.name: each.kept for each in run.findings},
        "notes": run.notes,
    }


class _Run:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.kept: dict[str, Any] = {}

    async def bars(self, place: Database, directory: Path) -> None:
        """Every part in turn; each sets up what it needs and takes it down."""
        parts: Collection[str] = self.options.bars
        if set(parts) & {*VALIDATES, *CURVE}:
            async with AsyncExitStack() as stack:
                setting = Setting(self.options, stack, directory, place, self.notes)
                found, kept = await validates(setting, parts)
                self.findings += found
                self.kept |= kept
        for names, part in ((ROWS, crowded), (SWEEP, sweeping), (MOVE, moving)):
            if set(parts) & set(names):
                async with AsyncExitStack() as stack:
                    found, kept = await part(Setting(self.options, stack, directory, place, self.notes))
                self.findings += found
                self.kept |= kept
        if set(parts) & set(SOCKETS):
            done = await sockets.run(parts, place, directory, scale(self.options))
            self.findings += done.findings
            self.notes += done.notes
            self.kept["sockets"] = done.kept

    async def sizes(self, place: Database, directory: Path) -> None:
        """How cost grows."""
        async with AsyncExitStack() as stack:
            self.kept |= await scaling(Setting(self.options, stack, directory, place, self.notes))

    async def alone(self, place: Database, directory: Path) -> None:
        """Only some contenders: their rates, compared with nothing."""
        async with AsyncExitStack() as stack:
            ring = Ring(Setting(self.options, stack, directory, place, self.notes), self.options.only)
            await ring.set_up()
            runs = await ring.run()
        self.kept |= kept_of(ring.contenders, runs)
        for name, samples in runs.items():
            rates = sorted(each.per_second for each in samples)
            p99 = statistics.median(each.p99 for each in samples)
            self.notes.append(
                f"{ring.contenders[name].name}: {statistics.median(rates):,.0f}/s "
                f"({rates[0]:,.0f} to {rates[-1]:,.0f}), p99 {p99:.2f} ms"
            )
