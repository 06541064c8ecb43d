"""B12: validates beside the sweep of a million ended sessions, against validates without it.

The sweep runs in the process that validates, as it does in every server, and on the same table.
"""

import asyncio
import dataclasses
import statistics
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.callers import Contender, Sample
from benchmarks.report import Figures, Finding
from benchmarks.rows import add_rows, token_of
from benchmarks.setting import Setting
from benchmarks.subject import Holdfast
from holdfast import SessionManager

GOAL_SECONDS = 600.0


@dataclass(frozen=True)
class BesideSweep:
    """What was measured, and what was swept meanwhile."""

    without: list[Sample]
    during: list[Sample]
    deleted: int
    seconds: float


async def sweeping(setting: Setting) -> tuple[list[Finding], dict[str, Any]]:
    """Measure; what was found, and what the file holds of it."""
    options, address = setting.options, setting.place.address
    live, ended = options.sessions, options.ended
    manager, schema = await setting.empty("swept")
    print(f"filling a table with {live:,} live and {ended:,} ended sessions", flush=True)
    await add_rows(address, schema, live)
    await add_rows(address, schema, ended, first=live, ended=True)
    subject = Holdfast("Holdfast", manager, [token_of(each) for each in range(live)])

    done = await beside_sweep(manager, subject, options.callers, options.seconds, options.rounds)
    assert done.deleted == ended, f"{done.deleted:,} of {ended:,} were swept"
    await setting.place.drop(schema)
    return [*_found(done.without, done.during), _took(done.seconds, ended)], {"sweep": dataclasses.asdict(done)}


async def beside_sweep(
    manager: SessionManager, subject: Contender, callers: int, seconds: float, rounds: int
) -> BesideSweep:
    """Validates before a sweep, until it is done, and after it."""

    async def slices(number: int) -> list[Sample]:
        return [await subject.measure(callers, seconds) for _ in range(number)]

    await slices(1)
    without = await slices(rounds)
    began = time.perf_counter()
    sweep = asyncio.create_task(manager.sweep())
    during: list[Sample] = []
    while not sweep.done() and time.perf_counter() < began + 2 * GOAL_SECONDS:
        during += await slices(1)
    swept = await sweep
    took = time.perf_counter() - began
    return BesideSweep(without + await slices(rounds), during, swept.deleted, took)


def _found(without: list[Sample], during: list[Sample]) -> list[Finding]:
    base = statistics.median(each.p99 for each in without)
    p99 = [each.p99 / base for each in during]
    rate = statistics.median(each.per_second for each in without)
    rates = [each.per_second / rate for each in during]
    return [
        Figures(
            *("B12 p99", "<= 2", "p99 of validate beside the sweep against without", p99, "x"),
            *(f"{min(p99):.2f} to {max(p99):.2f}", f"{base * statistics.median(p99):.2f} ms", f"{base:.2f} ms"),
        ),
        Figures(
            *("B12 rate", "-", "validates a second beside the sweep against without", rates, "x"),
            *(f"{min(rates):.2f} to {max(rates):.2f}", f"{rate * statistics.median(rates):,.0f}/s", f"{rate:,.0f}/s"),
        ),
    ]


def _took(seconds: float, ended: int) -> Finding:
    return Figures(
        "B12 time", f"<= {GOAL_SECONDS:.0f} s", f"sweep of {ended:,} ended sessions", [seconds], "s", "", "", ""
    )
