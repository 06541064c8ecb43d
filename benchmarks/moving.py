"""B13: a million sessions go from a SQLite file to PostgreSQL while an application writes a thousand times a second.

Mover and application have a process each. What counts is how long copying and comparing take together, the longest
wait of a write that was due while the authority changed, and the mover's memory.
"""

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from benchmarks.child import child
from benchmarks.report import Figures, Finding
from benchmarks.rows import token_of
from benchmarks.setting import Setting
from benchmarks.subject import METADATA
from holdfast import StoreOptions
from holdfast.sessions.metadata import canonical
from holdfast.sql import schema

GOAL_SECONDS: Final = 90.0
GOAL_MILLISECONDS: Final = 50.0
GOAL_MEGABYTES: Final = 200.0
QUIET_SECONDS: Final = 2.0
"""How long the application writes before the move, and after it."""
_DAY: Final = 24 * 3600 * 1_000_000


async def moving(setting: Setting) -> tuple[list[Finding], dict[str, Any]]:
    """Measure; what was found, and what the file holds of it."""
    options, address = setting.options, setting.place.address
    path = setting.directory / "moved.db"
    name = await setting.place.another("moved")
    await schema.upgrade(address, StoreOptions(schema=name))
    await schema.upgrade(path)
    print(f"filling a file with {options.moved:,} sessions", flush=True)
    add_file_rows(path, options.moved)

    place = (str(path), address, name)
    async with (
        child("moving_application", *place, str(options.moved), str(options.writes)) as application,
        child("moving_mover", *place) as mover,
    ):
        await application.ask("begin", QUIET_SECONDS)
        steps = {goal: await mover.ask(goal) for goal in ("start", "verify", "cut_over")}
        wrote = await application.ask("end", QUIET_SECONDS)
        back = await mover.ask("roll_back")
        memory = await mover.ask("memory")
    await setting.place.drop(name)
    moved = {"steps": {**steps, "roll_back": back}, "memory_mb": memory, "application": _told(wrote, steps)}
    return _found(moved, options.moved, options.writes), {"move": moved}


def add_file_rows(path: Path, number: int) -> None:
    """Put so many live sessions into a file that Holdfast's migrations made, with the tokens of `token_of`."""
    now = time.time_ns() // 1_000
    metadata = canonical(METADATA)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO sessions (id, digest, user_id, metadata, metadata_version, created_at, expires_at, "
            "last_activity, request_count) VALUES (?, ?, ?, ?, 0, ?, ?, ?, 0)",
            ((*row, metadata, now, now + _DAY, now) for row in _rows(number)),
        )
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _rows(number: int) -> Iterator[tuple[str, bytes, str]]:
    now = time.time_ns() // 1_000_000
    version, variant = 0x7 << 76, 0x2 << 62
    for each in range(number):
        id = UUID(int=(now + each // 1_000) << 80 | version | variant | each)
        yield id.hex, hashlib.sha256(token_of(each).encode()).digest(), f"user-{each % 100_000}"


def _told(wrote: dict[str, Any], steps: dict[str, Any]) -> dict[str, Any]:
    """The application's writes, those apart that were due while the authority changed."""
    begun, ended = steps["start"]["began"], steps["verify"]["ended"]
    at, done = steps["cut_over"]["closed"], steps["cut_over"]["opened"]
    return {
        "before_ms": _spread([took for due, took in wrote["writes"] if due < begun]),
        "copying_and_comparing_ms": _spread([took for due, took in wrote["writes"] if begun <= due < ended]),
        # From a little earlier: a write that was under way is told to wait too.
        "cut_over_ms": _spread([took for due, took in wrote["writes"] if at - 0.05 <= due < done + 0.05]),
        "after_ms": _spread([took for due, took in wrote["writes"] if due >= done + 0.05]),
        "acknowledged": len(wrote["writes"]),
        "a_second": wrote["a_second"],
        "failed": wrote["failed"],
        "closed_ms": (done - at) * 1000,
    }


def _spread(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken) or [0.0]
    return {
        "writes": len(taken),
        "median": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
        "p999": ordered[int(len(ordered) * 0.999)],
        "longest": ordered[-1],
    }


def _found(moved: dict[str, Any], sessions: int, writes: int) -> list[Finding]:
    steps, told = moved["steps"], moved["application"]
    took = steps["verify"]["ended"] - steps["start"]["began"]
    waited, peak = told["cut_over_ms"]["longest"], moved["memory_mb"]["peak"]
    return [
        Figures(
            name="B13 time",
            goal=f"<= {GOAL_SECONDS:.0f} s",
            what=f"{sessions:,} sessions copied and compared, {writes:,} writes a second beside it",
            figures=[took],
            unit="s",
            spread="",
            ours=f"{sessions / took:,.0f}/s",
            peer="",
        ),
        Figures(
            name="B13 wait",
            goal=f"<= {GOAL_MILLISECONDS:.0f} ms",
            what="longest wait of a write at the cut-over, same load",
            figures=[waited],
            unit="ms",
            spread="",
            ours=f"{told['failed']} refused",
            peer="",
        ),
        Figures(
            name="B13 memory",
            goal=f"<= {GOAL_MEGABYTES:.0f} MB",
            what="the mover's resident memory at its highest",
            figures=[peak],
            unit="MB",
            spread="",
            ours=f"{moved['memory_mb']['before']:.0f} MB before",
            peer="",
        ),
    ]
