"""B9: a hundred thousand active sessions in a table of their own, and as many among ten million, in turn.

Where among them decides how many pages are written: the newest lie side by side, as those of a site mostly do, whose
visitors have logged in lately; spread over the whole table nearly each has a page to itself. Both are measured.
"""

import random
import shutil
import statistics
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.callers import Contender, Sample, load
from benchmarks.meter import Meter, Metered
from benchmarks.report import Bar, Finding, Runs, ratios
from benchmarks.rows import add_rows, token_of
from benchmarks.setting import Setting
from benchmarks.subject import Holdfast
from benchmarks.validates import kept_of
from holdfast import SessionManager

# Of a row with its indexes, and as much again for the log and for building the indexes.
BYTES_A_ROW = 2_000
_DRAWN = 100_000


class HoldfastUniform(Holdfast):
    """Validates drawn uniformly from all rows: the tokens of a slice are made before it begins."""

    def __init__(self, name: str, sessions: SessionManager, rows: int) -> None:
        super().__init__(name, sessions, ())
        self._rows = rows

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        tokens = [token_of(random.randrange(self._rows)) for _ in range(_DRAWN)]
        return await load(self._validate, tokens, callers, seconds)


def room_for(setting: Setting, rows: int) -> str | None:
    """Why so many rows do not fit on the server's disk; `None` when they do, or when the disk is not ours to see."""
    place = setting.place.data or Path.cwd()
    free = shutil.disk_usage(place).free
    if free > rows * BYTES_A_ROW:
        return None
    return f"{rows:,} rows need {rows * BYTES_A_ROW / 1e9:.0f} GB of disk and {free / 1e9:.0f} GB are free"


async def crowded(setting: Setting) -> tuple[list[Finding], dict[str, Any]]:
    """Measure; what was found, and what the file holds of it."""
    options, address = setting.options, setting.place.address
    active, rows = options.sessions, options.rows
    if (why_not := room_for(setting, rows)) is not None:
        setting.notes.append(f"B9 was left out: {why_not}; --rows takes fewer")
        return [], {}
    few, few_schema = await setting.empty("few")
    many, many_schema = await setting.empty("many")
    print(f"filling two tables with {active:,} and {rows:,} rows", flush=True)
    await add_rows(address, few_schema, active)
    filling = await add_rows(address, many_schema, rows)
    setting.notes.append(f"B9: {rows:,} rows were there after {filling:,.0f} s")
    step = rows // active
    newest, spread = f"Holdfast, the newest of {rows:,}", f"Holdfast, spread over {rows:,}"
    contenders: dict[str, Holdfast] = {
        "few": Holdfast("Holdfast, active sessions alone", few, [token_of(each) for each in range(active)]),
        "newest": Holdfast(newest, many, [token_of(each) for each in range(rows - active, rows)]),
        "spread": Holdfast(spread, many, [token_of(each * step) for each in range(active)]),
        "uniform": HoldfastUniform(f"Holdfast, uniformly over {rows:,}", many, rows),
    }
    connection = await asyncpg.connect(address)
    setting.stack.push_async_callback(connection.close)
    metered = {
        name: Metered(each, Meter(connection, few_schema if name == "few" else many_schema))
        for name, each in contenders.items()
    }
    runs = await _run(setting, metered)
    for name, each in metered.items():
        rate = statistics.median(sample.per_second for sample in runs[name])
        setting.notes.append(
            f"B9, {each.name}: {rate:,.0f}/s, {statistics.median(each.log_bytes):,.0f} bytes of log a validate"
        )
    kept = kept_of(metered, runs)
    kept["log_bytes_a_validate"] = {name: each.log_bytes for name, each in metered.items()}
    await setting.place.drop(many_schema)
    placed = {"newest": "the newest of", "spread": "spread over"}
    bars = [
        Bar(
            f"B9 {name}",
            f"{active:,} active, {where} {rows:,} rows, against alone",
            ">= 0.8",
            name,
            "few",
            "per_second",
        )
        for name, where in placed.items()
    ]
    return list(ratios(runs, bars)), {"rows": kept}


async def _run(setting: Setting, metered: dict[str, Metered]) -> Runs:
    options = setting.options
    contenders: dict[str, Contender] = {**metered}
    for name, contender in contenders.items():
        await contender.measure(options.callers, setting.moment)
        metered[name].log_bytes.clear()
    runs: Runs = {name: [] for name in contenders}
    for number in range(options.rounds):
        print(f"B9, round {number + 1} of {options.rounds}", flush=True)
        # Who writes many pages leaves the server work: each round begins with another, so that all come after each.
        first = number % len(contenders)
        turns = [*contenders.items()]
        for name, contender in turns[first:] + turns[:first]:
            runs[name].append(await contender.measure(options.callers, options.seconds))
    return runs
