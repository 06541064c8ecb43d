"""`holdfast sessions stats`."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from holdfast.cli.db import AsJson, Postgres, Sqlite, refuse_both
from holdfast.cli.environment import read_settings
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.statistics import Statistical, Statistics
from holdfast.web.responses import timestamp


def register(group: typer.Typer) -> None:
    """Add the command to `holdfast sessions`."""
    group.command("stats")(stats)


def stats(
    hours: Annotated[int, typer.Option(min=1, max=24 * 366, help="How many hours back.")] = 24,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many users and devices.")] = 10,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Show creates and ends per hour, how long sessions lasted, and whose they are and on what.

    Example: holdfast sessions stats --hours 48 --top 5
    """
    refuse_both(sqlite, postgres)
    manager = read_settings(sqlite, postgres, sweep_interval_seconds="none").manager()
    found = asyncio.run(_asked(manager, hours, top))
    typer.echo(json.dumps(asdict(found), default=_spelled) if as_json else "\n".join(_shown(found)))


async def _asked(manager: SessionManager, hours: int, top: int) -> Statistics:
    async with manager:
        store = manager.store
        if not isinstance(store, Statistical):
            raise InvalidArgument("this store keeps no statistics; give a SQLite file or a PostgreSQL database")
        return await store.statistics(hours, top)


def _spelled(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError


def _shown(found: Statistics) -> Iterable[str]:
    yield f"{found.live:,} live, {found.ended:,} ended and still kept, at {_spelled(found.at)}"
    yield from _table(
        ("hour", "created", "ended"),
        [(f"{each.hour:%Y-%m-%d %H:%M}Z", each.created, each.ended) for each in found.hours],
    )
    if (lasted := found.durations) is not None:
        seconds = (lasted.median, lasted.p90, lasted.p99, lasted.longest)
        yield from _table(
            ("lasted", "half", "nine in ten", "99 in 100", "the longest"),
            [(f"{lasted.sessions:,} sessions", *(f"{each:,.0f} s" for each in seconds))],
        )
    for title, shares in (("user", found.users), ("device", found.devices)):
        rows = [(each.name or "-", each.live, each.kept, each.requests) for each in shares]
        yield from _table((title, "live", "kept", "requests"), rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterable[str]:
    """Aligned columns, the first to the left; nothing without rows."""
    if not rows:
        return
    cells = [
        list(titles),
        *([_harmless(f"{each:,}" if isinstance(each, int) else str(each)) for each in row] for row in rows),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    yield ""
    for first, *rest in cells:
        others = (each.rjust(width) for each, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *others))


def _harmless(text: str) -> str:
    """A user's id or a device may hold anything, and must not move a terminal's cursor."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
