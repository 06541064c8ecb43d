"""`holdfast db import`."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import REFUSED, USAGE, complain, end
from holdfast.cli.options import AsJson, Directory, OnBadExpiry, Postgres, Sqlite, Yes, refuse_both
from holdfast.cli.output import confirm as ask
from holdfast.cli.output import print_json
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from holdfast.backups.archive import Tell
    from holdfast.imports.report import Report
    from holdfast.settings import Settings


def register(group: typer.Typer) -> None:
    """Add the command to `holdfast db`."""
    group.command("import")(import_)


def import_(
    from_sqlite: Annotated[
        Path | None,
        typer.Option(readable=False, help="Take in the `sessions` table of this SQLite file, which stays as it is."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Take in the table `sessions` in PostgreSQL itself, and take its name.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="With --in-place: put the application's table back.")] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="With --in-place: drop the application's table, which ends the undo.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report, change nothing.")] = False,
    accept_quarantined: Annotated[
        int, typer.Option(min=0, help="Leave exactly so many rows behind by which somebody may be logged in.")
    ] = 0,
    on_bad_expiry: Annotated[
        OnBadExpiry, typer.Option(help="What becomes of a row whose expiry is no time; extend means a day from now.")
    ] = OnBadExpiry.QUARANTINE,
    legacy_tz: Annotated[str | None, typer.Option(help="The zone of the rows' local times, by IANA name.")] = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    directory: Directory = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take in the sessions of an application's own table. Nobody is logged out by it. Safe to repeat.

    Example: holdfast db import --from-sqlite app.db --sqlite data/sessions.db --dry-run
    """
    refuse_both(sqlite, postgres)
    if (from_sqlite is None) != in_place:
        end(USAGE, "say what to import: either --from-sqlite FILE or --in-place")
    if undo + confirm + dry_run > 1 or ((undo or confirm) and not in_place):
        end(USAGE, "--undo and --confirm go with --in-place, and with nothing else")
    settings = read_settings(sqlite, postgres, backup_directory=directory, legacy_tz=legacy_tz)
    if undo or confirm:
        _end_of_import(settings, undo=undo, yes=yes, as_json=as_json)
        return
    if from_sqlite is not None and not os.path.lexists(from_sqlite):
        end(REFUSED, f"there is no file {from_sqlite}; check the path")
    report, backup = asyncio.run(_import(settings, from_sqlite, dry_run, accept_quarantined, on_bad_expiry.value))
    if as_json:
        print_json({"dry_run": dry_run, "backup": backup and str(backup), **report.as_json()})
        return
    if backup is not None:
        typer.echo(backup)
    _show(report, dry_run=dry_run)


async def _import(
    settings: "Settings", from_sqlite: Path | None, dry_run: bool, accept_quarantined: int, on_bad_expiry: Any
) -> "tuple[Report, Path | None]":
    from holdfast.imports.run import Wishes
    from holdfast.imports.whole import from_sqlite as importing
    from holdfast.imports.whole import in_place
    from holdfast.legacy.zone import zone_named

    wishes = Wishes(zone_named(settings.legacy_tz), on_bad_expiry, accept_quarantined)
    address, options, folder = settings.address(), settings.store_options(), settings.backup_directory
    with Progress() as progress:
        read = 0

        def tell(step: str, rows: int) -> None:
            nonlocal read
            if step == "reading":
                read = rows
            progress.expected = read if step == "importing" else None
            progress(step, rows)

        if from_sqlite is not None:
            return await importing(from_sqlite, address, options, folder, wishes, tell, dry=dry_run)
        return await in_place(address, options, folder, wishes, tell, dry=dry_run)


def _end_of_import(settings: "Settings", *, undo: bool, yes: bool, as_json: bool) -> None:
    from holdfast.imports.whole import confirm_in_place, undo_in_place

    address, options = settings.address(), settings.store_options()
    question = "Put the application's table back, without what began in Holdfast" if undo else "Drop that table"
    ask(f"{question}?", yes=yes)
    if undo:
        gone = _told(lambda tell: undo_in_place(address, options, tell))
        complain(f"the application's table is back; {gone:,} of its rows are over and went")
    else:
        gone = int(_told(lambda tell: confirm_in_place(address, options, tell)))
        complain("the application's table is dropped" if gone else "there is no table to drop")
    if as_json:
        print_json({"undone" if undo else "dropped": gone})


def _told(work: "Callable[[Tell], Coroutine[Any, Any, Any]]") -> Any:
    with Progress() as progress:
        return asyncio.run(work(progress))


def _show(report: "Report", *, dry_run: bool) -> None:
    complain(
        f"{report.rows:,} rows: {report.exact:,} exact, {report.repaired:,} repaired, "
        f"{report.quarantined:,} quarantined"
    )
    complain(f"{report.live:,} sessions are live; {report.quarantined_live:,} quarantined rows may be")
    for remark, rows in report.remarks.most_common():
        complain(f"{rows:,} rows: {remark}")
    complain("nothing was changed" if dry_run else f"{report.new:,} rows are new")
