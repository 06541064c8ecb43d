"""`holdfast sessions stats`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from holdfast.cli.options import AsJson, Postgres, Sqlite
from holdfast.cli.output import print_json, print_table, shown
from holdfast.cli.stores import ask
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.statistics import MOST_HOURS, MOST_SHARES, Statistical, Statistics


def register(group: typer.Typer) -> None:
    """Add the command to `holdfast sessions`."""
    group.command("stats")(stats)


def stats(
    hours: Annotated[int, typer.Option(min=1, max=MOST_HOURS, help="How many hours back.")] = 24,
    top: Annotated[int, typer.Option(min=1, max=MOST_SHARES, help="How many users and devices.")] = 10,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Show creates and ends per hour, durations, users and devices.

    Example: holdfast sessions stats --hours 48 --top 5
    """
    found = ask(sqlite, postgres, lambda manager: _asked(manager, hours, top))
    print_json(asdict(found)) if as_json else _show(found)


async def _asked(manager: SessionManager, hours: int, top: int) -> Statistics:
    store = manager.store
    if not isinstance(store, Statistical):
        raise InvalidArgument("this store keeps no statistics; give a SQLite file or a PostgreSQL database")
    return await store.statistics(hours, top)


def _show(found: Statistics) -> None:
    typer.echo(f"{found.live:,} live, {found.ended:,} ended and still kept, at {shown(found.at)}")
    hours = [(f"{each.hour:%Y-%m-%d %H:%M}Z", each.created, each.ended) for each in found.hours]
    _part(("hour", "created", "ended"), hours)
    if (lasted := found.durations) is not None:
        seconds = (lasted.median, lasted.p90, lasted.p99, lasted.longest)
        _part(
            ("lasted", "half", "nine in ten", "99 in 100", "the longest"),
            [(f"{lasted.sessions:,} sessions", *(f"{each:,.0f} s" for each in seconds))],
        )
    for title, shares in (("user", found.users), ("device", found.devices)):
        rows = [(each.name, each.live, each.kept, each.requests) for each in shares]
        _part((title, "live", "kept", "requests"), rows)


def _part(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table after an empty line; nothing without rows."""
    if rows:
        typer.echo()
        print_table(titles, rows)
