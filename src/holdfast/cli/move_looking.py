"""`holdfast move plan` and `status`: they change nothing."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from holdfast.cli.exits import REFUSED, USAGE, CommandEnded, complain, end
from holdfast.cli.move_running import Stores, interruptible, status_as_json
from holdfast.cli.options import AsJson, Directory, LegacyZone, NoBackup, OnBadExpiry, Postgres, Sqlite
from holdfast.cli.output import print_facts, print_json, print_table, shown
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast.move.planning import Plan
    from holdfast.move.status import MoveStatus, StoreName

_MOST_ODD = 50
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_NEXT = {
    None: "holdfast move plan",
    "preparing": "holdfast move start",
    "copying": "holdfast move start",
    "following": "holdfast move verify, then holdfast move cutover; or holdfast move abort",
    "cutting": "holdfast move cutover, which ends it one way or the other",
    "switched": "holdfast move complete once nobody will want to go back; or holdfast move rollback",
    "returning": "holdfast move rollback, which ends it",
    "returned": "holdfast move rollback, which ends it",
    "aborting": "holdfast move abort, which ends it",
    "completing": "holdfast move complete, which ends it",
}


def plan(
    no_backup: NoBackup = False,
    directory: Directory = None,
    on_bad_expiry: Annotated[
        OnBadExpiry, typer.Option(help="What becomes of a legacy row whose expiry is no time.")
    ] = OnBadExpiry.QUARANTINE,
    legacy_tz: LegacyZone = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Say what a move would do, and what stands in its way.

    And how long it would take. Reads every row and changes nothing. Exit code 4 when something stands in its way.

    Example: holdfast move plan --sqlite data/sessions.db --postgres postgresql://holdfast@db/app
    """
    from holdfast.doctor.machine import file_system
    from holdfast.move.planning import plan as planning

    stores = Stores(sqlite, postgres, directory, legacy_tz=legacy_tz)
    settings = stores.settings
    with Progress() as progress:
        made = interruptible(
            planning(
                stores.sqlite,
                stores.postgresql,
                settings.store_options(),
                backups=None if no_backup else settings.backup_directory,
                on_bad_expiry=on_bad_expiry.value,
                tell=lambda rows: progress("reading", rows),
            )
        )
    found = file_system(stores.sqlite)
    if found.level == "problem":
        made.refuse(found.what, found.remedy or "")
    if as_json:
        print_json(made.as_json())
    else:
        _show_plan(made)
    if made.refusals:
        raise CommandEnded(REFUSED)


def _show_plan(made: "Plan") -> None:
    facts: dict[str, Any] = {"from": f"{made.sqlite['path']} ({made.sqlite['form']})"}
    if "bytes" in made.sqlite:
        facts["size"] = f"{made.sqlite['bytes']:,} bytes, journal mode {made.sqlite['journal_mode']}"
    facts["to"] = f"{made.postgresql['address']}, schema {made.postgresql['schema']}"
    facts["versions"] = f"SQLite {made.sqlite['library']}, PostgreSQL {made.postgresql.get('version', 'not known')}"
    if made.rows:
        facts["rows"] = ", ".join(f"{count:,} in {table}" for table, count in made.rows.items())
        facts["classes"] = ", ".join(f"{made.classes[name]:,} {name}" for name in ("exact", "repaired", "quarantined"))
        facts["expected time"] = None if made.seconds is None else f"about {made.seconds:,.0f} s to copy and compare"
    if made.processes:
        able = sum(each.configured for each in made.processes)
        facts["processes"] = f"{len(made.processes):,} use these stores, and {able:,} of them know both"
    print_facts(facts)
    for remark, count in made.classes.get("remarks", {}).items():
        typer.echo(f"{count:,} rows: {shown(remark)}")
    if odd := made.classes.get("odd", [])[:_MOST_ODD]:
        rows = [
            (each["class"], each["id"] or f"digest {each['digest']}", "yes" if each["live"] else "no",
             ", ".join(each["remarks"]))
            for each in odd
        ]  # fmt: skip
        print_table(("class", "session", "live", "why"), rows)
        if len(made.classes["odd"]) > _MOST_ODD:
            complain("there are more; --json lists a thousand")
    for each in made.notices:
        complain(f"{each.what}; {each.remedy}")
    for each in made.refusals:
        complain(f"refused: {each.what}; {each.remedy}")
    if not made.refusals:
        phase = made.status and made.status.phase
        complain(f"nothing stands in the way; next: {_NEXT[phase] if phase else 'holdfast move start'}")


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second, until you stop it.")] = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Say where the move stands, and what comes next.

    Who serves, how far the other store is behind, when all rows were last compared. Exit code 4 when one of the stores
    does not answer, or they do not belong together.

    Example: holdfast move status --watch
    """
    stores = Stores(sqlite, postgres)
    if watch:
        if as_json:
            end(USAGE, "--watch is for people; leave out --json")
        interruptible(_watch(stores))
        return
    found, obstacles, fit = interruptible(_look(stores))
    if as_json:
        print_json(status_as_json(found) | {"obstacles": obstacles, "next": next_step(found)})
    else:
        print_facts(facts_of(found))
        for each in obstacles:
            complain(each)
    if not fit:
        raise CommandEnded(REFUSED)


async def _look(stores: Stores) -> "tuple[MoveStatus, list[str], bool]":
    """Where the move stands; what an operator has to know besides; whether both stores are there and fit together."""
    from holdfast.move.obstacles import obstacles
    from holdfast.move.status import StatusReader

    options = stores.settings.store_options()
    async with StatusReader(stores.sqlite, stores.postgresql, options) as reader:
        found = await reader.read()
    if found.away:
        return found, [await _why_away(stores, name) for name in found.away], False
    if reader.strange is not None:
        return found, [reader.strange], False
    if found.phase is None:
        return found, [], True
    to: StoreName = "sqlite" if found.authority == "postgresql" else "postgresql"
    ahead = await obstacles(to, stores.sqlite, stores.postgresql, options)
    return found, [*ahead.refusals, *ahead.notes], True


async def _why_away(stores: Stores, name: str) -> str:
    """Why a store does not answer, in the words of whoever would open it."""
    from holdfast.move.failures import of_two
    from holdfast.sessions.errors import HoldfastError
    from holdfast.sql import schema
    from holdfast.sql.address import parse_address

    address = parse_address(stores.sqlite if name == "sqlite" else stores.postgresql)
    try:
        await schema.require(address, stores.settings.store_options())
    except HoldfastError as error:
        return str(of_two(error, name))
    return f"{address} did not answer a moment ago; ask again"


def facts_of(found: "MoveStatus") -> dict[str, object]:
    """A status for people."""
    serves = "not decided: no move joins these two stores" if found.authority is None else _NAMES[found.authority]
    facts: dict[str, object] = {
        "move": found.phase or _unknown(found),
        "serves": serves + (", and writes wait for a decision" if found.waiting else ""),
        "rows": found.rows,
        "on the other side": found.copied,
        "lag": f"{found.lag:,} changes" + (" or more" if found.lag_is_bound else ""),
        "last verified": found.verified_at,
        "quarantined": found.quarantined,
    }
    if found.away:
        facts["away"] = ", ".join(_NAMES[name] for name in found.away)
    return facts | {"next": next_step(found)}


def _unknown(found: "MoveStatus") -> str:
    if not found.away:
        return "none is under way"
    # Only PostgreSQL knows how far it is.
    return "not known" if found.move is None else "under way, and how far is not known"


def next_step(found: "MoveStatus") -> str | None:
    """What an operator does next; `None` when there is nothing left to do."""
    if found.away:
        return f"bring {' and '.join(_NAMES[name] for name in found.away)} back, or correct the address"
    if found.phase is None and found.authority == "postgresql":
        return None
    return _NEXT[found.phase]


async def _watch(stores: Stores) -> None:
    from holdfast.cli.move_view import table_of

    if not sys.stdout.isatty():
        await _watch_plainly(stores)
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            live.update(table_of(facts_of(await stores.status())), refresh=True)
            await asyncio.sleep(1)


async def _watch_plainly(stores: Stores) -> NoReturn:
    """For a file or a pipe: whatever has changed, once more."""
    shown_last: dict[str, object] = {}
    while True:
        if (facts := facts_of(await stores.status())) != shown_last:
            if shown_last:
                typer.echo()
            print_facts(facts)
            sys.stdout.flush()
            shown_last = facts
        await asyncio.sleep(1)
