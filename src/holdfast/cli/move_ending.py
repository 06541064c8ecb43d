"""`holdfast move complete` and `abort`: they end a move, and ask first."""

from typing import TYPE_CHECKING

from holdfast.cli.db import AsJson, Postgres, Sqlite
from holdfast.cli.move_running import DryRun, Stores, Yes, pursue

if TYPE_CHECKING:
    from holdfast.move.mover import Mover


def complete(
    dry_run: DryRun = False,
    yes: Yes = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """End a move after the cut-over: there is no way back after it. Asks first.

    The SQLite file stays where it is and takes no more writes; its sessions grow old. Run it once nobody will want
    to go back: a week later, say.

    Example: holdfast move complete --yes
    """
    from holdfast.legacy.form import has_legacy_form

    stores = Stores(sqlite, postgres)

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
    dry_run: DryRun = False,
    yes: Yes = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """End a move before the cut-over: SQLite serves on, and the copies in PostgreSQL are deleted. Asks first.

    After the cut-over roll back first. A cut-over that has not decided yet is called off.

    Example: holdfast move abort --yes
    """
    stores = Stores(sqlite, postgres)

    async def work(mover: "Mover") -> str:
        if (await mover.look()).postgresql.phase is None:
            return "no move is under way: SQLite serves"
        await mover.abort()
        return "there is no move any more: SQLite serves as before; PostgreSQL is empty, and closed to clients"

    question = "End the move, and delete the copies of the sessions in PostgreSQL?"
    pursue(stores, "abort", work, dry_run=dry_run, as_json=as_json, question=question, yes=yes)
