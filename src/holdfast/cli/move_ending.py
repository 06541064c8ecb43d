"""`holdfast move complete` and `abort`: they end a move, and ask first."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.exits import complain
from holdfast.cli.move_running import Stores, foretell, interruptible, pursue, status_as_json
from holdfast.cli.move_view import View
from holdfast.cli.options import AsJson, DryRun, Postgres, Sqlite, Yes
from holdfast.cli.output import confirm, print_json

if TYPE_CHECKING:
    from holdfast.move.foresight import Goal
    from holdfast.move.mover import Mover


def complete(
    accept_loss_of_file: Annotated[
        bool,
        typer.Option(
            "--accept-loss-of-file",
            help="The SQLite file is lost, or only an old copy of it is there: end the move with what PostgreSQL has.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """End a move after the cut-over: there is no way back after it. Asks first.

    The SQLite file stays where it is and takes no more writes; its sessions grow old. Run it once nobody will want
    to go back: a week later, say.

    Without the file, when it is lost, only with --accept-loss-of-file, which says what may be lost with it. That is
    refused while the file is there, and where PostgreSQL does not have all sessions.

    Example: holdfast move complete --yes
    """
    from holdfast.legacy.form import has_legacy_form

    stores = Stores(sqlite, postgres)
    if accept_loss_of_file:
        _complete_alone(stores, dry_run=dry_run, yes=yes, as_json=as_json)
        return

    async def work(mover: "Mover") -> str:
        await mover.complete()
        said = f"the move is over: PostgreSQL serves; {stores.sqlite} takes no more writes, and may be put away"
        if has_legacy_form(stores.sqlite):
            folder = stores.settings.backup_directory
            said += f". Its tokens are erased in it, and still in clear in its backups in {folder}: delete those"
        return said

    question = "End the move? There is no way back to SQLite after it."
    pursue(stores, "complete", work, dry_run=dry_run, as_json=as_json, question=question, yes=yes)


def abort(
    accept_loss_of_database: Annotated[
        bool,
        typer.Option(
            "--accept-loss-of-database",
            help="The database is lost, or was dropped: end the move with what the SQLite file has.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """End a move before the cut-over: SQLite serves on. The copies in PostgreSQL are deleted. Asks first.

    After the cut-over roll back first. A cut-over that has not decided yet is called off.

    Without the database, when it is lost, only with --accept-loss-of-database. That is refused while the database is
    there and knows of the move, and after the cut-over.

    Example: holdfast move abort --yes
    """
    stores = Stores(sqlite, postgres)
    if accept_loss_of_database:
        _abort_alone(stores, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    if interruptible(_is_from_before(stores)):
        _abort_restored(stores, dry_run=dry_run, yes=yes, as_json=as_json)
        return

    async def work(mover: "Mover") -> str:
        if (await mover.where()).postgresql.phase is None:
            return "no move is under way: SQLite serves"
        await mover.abort()
        return "there is no move any more: SQLite serves as before; PostgreSQL is empty, and closed to clients"

    question = "End the move, and delete the copies of the sessions in PostgreSQL?"
    pursue(stores, "abort", work, dry_run=dry_run, as_json=as_json, question=question, yes=yes)


def _complete_alone(stores: Stores, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from holdfast.move.lost_file import complete_alone, look_alone, loss, refuse_present

    options = stores.settings.store_options()

    async def foreseen() -> str | None:
        state = await look_alone(stores.postgresql, options)
        if state.phase is None and state.authority == "here":
            return None
        lost = loss(state)
        await refuse_present(stores.sqlite, stores.postgresql, options)
        return lost

    lost = asyncio.run(foreseen())
    steps = [] if lost is None else ["PostgreSQL serves, with what it has", "take the move's objects out of it"]
    _apart(
        stores,
        "complete",
        steps,
        f"End the move without the SQLite file? It may cost: {lost}.",
        lambda: complete_alone(stores.postgresql, options),
        "the move is over: PostgreSQL serves. Put no copy of the SQLite file back",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _abort_alone(stores: Stores, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from holdfast.move.lost_database import abort_alone, look_at_file, refuse_present

    options = stores.settings.store_options()

    async def foreseen() -> bool:
        state = await look_at_file(stores.sqlite, options)
        await refuse_present(state, stores.postgresql, options)
        return state.move is not None

    steps = ["take the move's objects out of the SQLite file, which serves on"] if asyncio.run(foreseen()) else []
    _apart(
        stores,
        "abort",
        steps,
        "End the move without the database? The SQLite file has all sessions. If the database comes back, give "
        "`holdfast move abort` once more before another start into it.",
        lambda: abort_alone(stores.sqlite, options),
        "there is no move any more: SQLite serves as before",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


async def _is_from_before(stores: Stores) -> bool:
    async with stores.mover(View(), backups=False) as mover:
        return await mover.is_from_before()


def _abort_restored(stores: Stores, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    async def abort_it() -> None:
        async with stores.mover(View(), backups=False) as mover:
            await mover.abort()

    _apart(
        stores,
        "abort",
        ["delete the copies of the sessions in PostgreSQL, which stays closed to clients"],
        "The SQLite file was restored from a backup from before the move, and PostgreSQL may have newer sessions. End "
        "the move, and delete those?",
        abort_it,
        "there is no move any more: SQLite serves what was restored; PostgreSQL is empty, and closed to clients",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _apart(
    stores: Stores,
    goal: "Goal",
    steps: list[str],
    question: str,
    work: Callable[[], Awaitable[None]],
    said: str,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """End a move whose two stores do not belong together, or one of which is lost: what `pursue` cannot look at."""
    if dry_run:
        foretell(goal, steps, as_json=as_json)
        return
    if steps:
        confirm(question, yes=yes)
        interruptible(_awaited(work))
    if as_json:
        status = status_as_json(asyncio.run(stores.status()))
        print_json({"command": goal, "dry_run": False, "did_something": bool(steps), "status": status})
    else:
        complain(said)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
