"""`holdfast db backup`, `restore` and `prune`."""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, REFUSED, complain, end
from holdfast.cli.options import AsJson, Directory, Postgres, Sqlite, Yes, refuse_both
from holdfast.cli.output import confirm, print_json
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast.backups.archive import Backup
    from holdfast.settings import Settings

_SENTENCES: Final = {
    "metadata_restored": "live sessions have the metadata of the backup again",
    "ended_again": "sessions ended, as they had in the backup",
    "brought_back": "sessions came back as they were",
    "brought_back_ended": "sessions came back, none of them live, because nobody knows which ended since",
    "left_out": "sessions of the backup stay gone: they were deleted after their end, or erased "
    "(--keep-sessions-live brings them back)",
    "newer": "sessions are not in the backup, and stay",
    "notes_restored": "rows that were imported once are known again, and are not taken in a second time",
}


def register(group: typer.Typer) -> None:
    """Add the commands to `holdfast db`."""
    group.command("backup")(backup)
    group.command("restore")(restore)
    group.command("prune")(prune)


def backup(
    sqlite: Sqlite = None, postgres: Postgres = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """Take a backup of a store while it is being used; prints its path.

    Example: holdfast db backup --sqlite data/sessions.db --directory /var/backups/holdfast
    """
    from holdfast.backups.take import take
    from holdfast.sql.address import parse_address

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres, backup_directory=directory)
    address = parse_address(settings.address())
    with Progress() as progress:
        made = asyncio.run(take(address, settings.store_options(), settings.backup_directory, progress))
    if made.manifest.authority not in (None, "here"):
        complain("this store does not accept writes, another one holds the authority: back that one up too")
    if as_json:
        print_json(_described(made))
        return
    typer.echo(made.path)
    rows = ", ".join(f"{count:,} in {table}" for table, count in made.manifest.rows.items())
    complain(f"backed up and verified: {rows}")


def restore(
    backup: Annotated[Path, typer.Argument(help="A backup's path, or its name in the directory of backups.")],
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    directory: Directory = None,
    from_another_store: Annotated[
        bool, typer.Option("--from-another-store", help="Take a backup of another store too.")
    ] = False,
    keep_sessions_live: Annotated[
        bool,
        typer.Option(
            "--keep-sessions-live", help="Let sessions come back live of which nobody knows whether they ended since."
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup back into a store, which is backed up first. What has ended stays ended.

    Refused, with exit code 4: a backup that is damaged, unfinished, of another kind, of another store or of a newer
    version; a SQLite file whose sessions were moved, where the environment names PostgreSQL too. No such backup is
    exit code 3.

    Example: holdfast db restore data/backups/holdfast-20261129T031500Z-sqlite-0a1b2c3d.holdfast --yes
    """
    from holdfast.backups.restore import restore as restoring
    from holdfast.backups.restoring import Wishes
    from holdfast.sql.address import SqliteAddress, parse_address

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres, backup_directory=directory)
    address = parse_address(settings.address())
    if not backup.exists() and backup.name == str(backup):
        backup = settings.backup_directory / backup
    if not backup.exists():
        end(DIFFERENT, f"there is no backup {backup}")
    if isinstance(address, SqliteAddress) and asyncio.run(_was_left(address.path)):
        end(
            REFUSED,
            f"the sessions of {address.path} were moved, and PostgreSQL has them: what is restored there would claim "
            "to be served. Restore it under another path, to look at it",
        )
    confirm(f"Restore {backup} into {address}?", yes=yes)
    wishes = Wishes(from_another_store, keep_sessions_live)
    with Progress() as progress:
        done = asyncio.run(
            restoring(address, settings.store_options(), backup, settings.backup_directory, wishes, progress)
        )
    numbers = asdict(done.merged)
    if as_json:
        aside = [str(path) for path in done.aside]
        print_json({"before": done.before and str(done.before), "aside": aside, **numbers})
        return
    for path in (*([done.before] if done.before else []), *done.aside):
        typer.echo(path)
    for name, sentence in _SENTENCES.items():
        if numbers[name]:
            complain(f"{numbers[name]:,} {sentence}")
    kept = "; what was there is kept, see the paths above" if done.before or done.aside else ""
    complain(f"restored{kept}")


def prune(
    keep_days: Annotated[float, typer.Option(min=0, max=100_000, help="Remove backups that are older than this.")] = 7,
    directory: Directory = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old backups, but never the newest good one of a store. Prints what is removed.

    Stays: what was taken within the days; of each store in the directory the newest backup that is verified to be as
    it was written, however old; whatever has no manifest of Holdfast's. Damaged ones are named, and go when their days
    are over. What a killed command left behind goes after a day. While a move of the two stores that the environment
    names is under way every backup stays: the way back may need one.

    Example: holdfast db prune --keep-days 7 --dry-run
    """
    from holdfast.backups.prune import prune as pruning

    settings = read_settings(backup_directory=directory)
    keep = timedelta(days=keep_days)
    if asyncio.run(_is_moved(settings)):
        complain("a move is under way, so every backup stays until it has ended")
        keep = timedelta.max
    with Progress() as progress:
        done = pruning(settings.backup_directory, keep, dry=dry_run, tell=progress)
    if as_json:
        lists = {name: [str(path) for path in getattr(done, name)] for name in done.__slots__}
        print_json({"dry_run": dry_run, **lists})
        return
    for path in (*done.removed, *done.leftovers):
        typer.echo(path)
    for path in done.damaged:
        complain(f"{path} is damaged: do not rely on it")
    for path in done.strange:
        complain(f"{path} has no manifest of Holdfast's and is left alone")
    if not settings.backup_directory.exists():
        complain(f"there is no directory {settings.backup_directory} yet; check the path if there should be backups")
    would = "would remove" if dry_run else "removed"
    complain(
        f"{would} {len(done.removed)} backups and {len(done.leftovers)} leftovers of killed commands; "
        f"{len(done.kept)} stay in {settings.backup_directory}"
    )


async def _is_moved(settings: "Settings") -> bool:
    """Whether the environment names two stores, and a move between them is under way, as far as either can say."""
    from holdfast.move.status import StatusReader
    from holdfast.sessions.store import TwoStores

    stores = settings.stores()
    if not isinstance(stores, TwoStores):
        return False
    async with StatusReader(stores.sqlite, stores.postgresql, settings.store_options()) as reader:
        return (await reader.read(count=False)).move is not None


async def _was_left(path: Path) -> bool:
    """Whether the environment names a file as one of two stores, and a move has come to the other one."""
    from holdfast.move.status import StatusReader
    from holdfast.sessions.errors import StoreUnavailable
    from holdfast.sessions.store import TwoStores

    settings = read_settings()
    stores = settings.stores()
    if not isinstance(stores, TwoStores) or Path(stores.sqlite).absolute() != path.absolute():  # noqa: ASYNC240 - no look
        return False
    try:
        async with StatusReader(stores.sqlite, stores.postgresql, settings.store_options()) as reader:
            status = await reader.read(count=False)
    except StoreUnavailable:
        # Nobody knows. A server finds out as soon as PostgreSQL is back.
        return False
    return status.authority == "postgresql" and status.epoch > 0


def _described(made: "Backup") -> dict[str, Any]:
    manifest = made.manifest
    return {
        "path": str(made.path),
        "kind": manifest.kind,
        "revision": manifest.revision,
        "store_id": manifest.store_id and str(manifest.store_id),
        "authority": manifest.authority,
        "taken_at": manifest.taken_at,
        "rows": manifest.rows,
    }
