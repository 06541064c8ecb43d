"""`--scale`: what a session costs when there are ten thousand, a million, ten million of them.

For each size: bytes of disk; validates a second of one process with 1 to 1,000 callers, and of two at once; bytes of
write-ahead log for each, and how many updates stayed in their page; the exact count; memory of a process; and a sweep
of a tenth as many ended sessions beside full load. Draws are uniform over all sessions, which no cache likes.
"""

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg

from benchmarks.child import Child, child
from benchmarks.crowded import room_for
from benchmarks.meter import Meter
from benchmarks.rows import add_rows
from benchmarks.setting import Setting
from holdfast.sessions.store import StoreOptions
from holdfast.sql.schema import upgrade

_CALLERS: Final = (1, 10, 100, 1_000)
_DISK: Final = """\
SELECT indexrelid::regclass::name AS name, pg_relation_size(indexrelid) AS bytes
FROM pg_index WHERE indrelid = $1::regclass
UNION ALL SELECT 'sessions', pg_table_size($1::regclass)
UNION ALL SELECT 'total', pg_total_relation_size($1::regclass)"""


async def scaling(setting: Setting) -> dict[str, Any]:
    """Measure every size in turn; what the file holds of it. Each prints its figures when it is done."""
    measured = []
    for size in setting.options.sizes:
        if (why_not := room_for(setting, size)) is not None:
            setting.notes.append(f"{size:,} sessions were left out: {why_not}")
            continue
        async with AsyncExitStack() as stack:
            found = await _size(setting, stack, size)
        measured.append(found)
        print("\n".join(_told(found)), flush=True)
    return {"scale": measured}


async def _size(setting: Setting, stack: AsyncExitStack, size: int) -> dict[str, Any]:
    options, address = setting.options, setting.place.address
    schema = await setting.place.another("scale")
    stack.push_async_callback(setting.place.drop, schema)
    await upgrade(address, StoreOptions(schema=schema))
    print(f"filling a table with {size:,} sessions", flush=True)
    filled = await add_rows(address, schema, size)
    connection = await asyncpg.connect(address)
    stack.push_async_callback(connection.close)
    rows = await connection.fetch(_DISK, f"{schema}.sessions")
    found: dict[str, Any] = {
        "sessions": size,
        "filled_seconds": filled,
        "disk_bytes": {row["name"].rpartition(".")[2]: row["bytes"] for row in rows},
    }
    meter = Meter(connection, schema)
    loading = ("--address", address, "--schema", schema, "--rows", str(size))
    first = await stack.enter_async_context(child("loader", *loading))
    library = await first.ask("memory")
    await first.ask("measure", options.callers, setting.moment)
    before = await meter.counts()
    found["one_process"] = {
        str(callers): await _slices(first, meter, callers, setting)
        for callers in _CALLERS
        if not options.quick or callers <= options.callers
    }
    after = await meter.counts()
    found["in_page_share"] = (after.in_page - before.in_page) / max(1, after.updates - before.updates)
    found["memory_bytes"] = {"library": library, "loaded": await first.ask("memory")}
    second = await stack.enter_async_context(child("loader", *loading))
    found["two_processes"] = await _both(first, second, setting)
    counted = await first.ask("count")
    assert counted["sessions"] == size, counted
    found["count_ms"] = counted["milliseconds"]
    await add_rows(address, schema, max(1, size // 10), first=size, ended=True)
    found["sweep"] = _swept(await first.ask("sweep", options.callers, options.seconds, options.rounds))
    return found


async def _slices(loader: Child, meter: Meter, callers: int, setting: Setting) -> dict[str, float]:
    """The middle of some slices with so many callers."""
    options = setting.options
    samples, log = [], []
    for _ in range(options.rounds):
        before = await meter.log_bytes()
        sample = await loader.ask("measure", callers, options.seconds)
        log.append((await meter.log_bytes() - before) / (sample["per_second"] * options.seconds))
        samples.append(sample)
    return {**_middle(samples), "log_bytes": statistics.median(log)}


async def _both(first: Child, second: Child, setting: Setting) -> dict[str, float]:
    """Two processes at once, with half of the callers each: together, and the worse p99 of the two."""
    options = setting.options
    half = max(1, options.callers // 2)
    together = []
    for _ in range(options.rounds + 1):
        both = await asyncio.gather(*(each.ask("measure", half, options.seconds) for each in (first, second)))
        together.append(
            {
                "per_second": sum(each["per_second"] for each in both),
                "median": max(each["median"] for each in both),
                "p99": max(each["p99"] for each in both),
            }
        )
    # The first is not kept: the second process has connected in it.
    return _middle(together[1:])


def _middle(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in samples) for name in ("per_second", "median", "p99")}


def _swept(done: dict[str, Any]) -> dict[str, Any]:
    return {
        "deleted": done["deleted"],
        "seconds": done["seconds"],
        "without": _middle(done["without"]),
        "during": _middle(done["during"]),
    }


def _told(found: dict[str, Any]) -> list[str]:
    """What a person wants to know of one size."""
    size, disk, sweep = found["sessions"], found["disk_bytes"], found["sweep"]
    memory = found["memory_bytes"]
    name = f"{size:,} sessions"
    two = found["two_processes"]
    return [
        f"{name}: {disk['total'] / size:,.0f} bytes of disk each, of which {disk['sessions'] / size:,.0f} the row",
        f"{name}: {found['in_page_share']:.1%} of the updates in their page",
        f"{name}: exact count {found['count_ms']:,.1f} ms",
        *(_of_callers(name, callers, each) for callers, each in found["one_process"].items()),
        f"{name}, two processes: {two['per_second']:,.0f}/s together, p99 {two['p99']:.2f} ms",
        f"{name}: {memory['loaded'] / 1e6:,.0f} MB of memory a process, {memory['library'] / 1e6:,.0f} MB before work",
        f"{name}, sweep of {sweep['deleted']:,} ended sessions: {sweep['seconds']:,.1f} s",
        f"{name}: p99 {sweep['during']['p99']:.2f} ms beside the sweep, {sweep['without']['p99']:.2f} ms without",
    ]


def _of_callers(name: str, callers: str, measured: dict[str, float]) -> str:
    return (
        f"{name}, {int(callers):,} callers: {measured['per_second']:,.0f}/s, median {measured['median']:.2f} ms, "
        f"p99 {measured['p99']:.2f} ms, {measured['log_bytes']:,.0f} bytes of log a validate"
    )
