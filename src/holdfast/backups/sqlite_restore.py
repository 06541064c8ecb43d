"""Put a backup back into a SQLite file.

A sound file gets it in one transaction: servers that have it open simply see it, and a crash leaves all or nothing.
What is damaged, or gone, is replaced.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from holdfast.backups.archive import Backup, Tell, sync
from holdfast.backups.inside import Inside
from holdfast.backups.merging import RESTORED, Merged, MergeStatements
from holdfast.backups.restoring import Restored, Wishes, is_known
from holdfast.backups.room import room_for
from holdfast.backups.sqlite_copy import look_inside, refuse_damaged
from holdfast.backups.sqlite_replace import DATA, clear_leftovers, copied, folder_beside, replace, turn
from holdfast.backups.take import take
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import SqliteAddress
from holdfast.sql.failures import Kind, explained, kind_of
from holdfast.sql.revisions import is_newest
from holdfast.sql.sqlite_file import connect, open_to_read, refuse_strange
from holdfast.sql.tables import tables


async def restore(
    address: SqliteAddress, options: StoreOptions, backup: Backup, directory: Path, wishes: Wishes, tell: Tell
) -> Restored:
    """Put a verified backup of a SQLite store back. See `restore.restore`."""
    path, where = address.path, f"SQLite file {address.path}"
    await asyncio.to_thread(clear_leftovers, path)
    with explained(where, sqlite3.Error), room_for(2 * backup.manifest.files[DATA].size, path.parent):
        found = await asyncio.to_thread(_present, path)
        if found is None:
            return await replace(path, backup, wishes, tell)
        inside, sessions = found
        await schema.require(address, options)
        known = is_known(backup, where, inside.store_id, sessions, inside.authority, wishes)
        before = await take(address, options, directory, tell)
        async with _usable(backup, path) as file:
            adopt = not known and not sessions
            merged = await asyncio.to_thread(_merge, path, file, inside, backup, wishes, known, adopt, tell)
        return Restored(merged, before.path)


def restore_legacy(path: Path, backup: Backup, wishes: Wishes, tell: Tell) -> Restored:
    """Put a legacy file where there is none. Its sessions cannot be ended, only be there or not."""
    if os.path.lexists(path):
        raise StoreRefused(f"there is a file {path}; a legacy file is restored only where there is none")
    if not wishes.keep_sessions_live:
        raise StoreRefused(
            f"{backup.path} is of a legacy file, in which a session is there or not: all that were live would come "
            "back, whatever ended since. Add --keep-sessions-live to restore it all the same"
        )
    with room_for(backup.manifest.files[DATA].size, path.parent), folder_beside(path) as folder:
        file = copied(backup, folder)
        sync(file)
        tell("copied", 0)
        # Unlike a rename it never takes the place of a file that came into being meanwhile.
        os.link(file, path)
        sync(path.parent)
    tell("replaced", 0)
    return Restored(Merged(brought_back=backup.manifest.rows.get("sessions", 0)))


def _present(path: Path) -> tuple[Inside, int] | None:
    """The sound store that is there, with the number of its sessions; `None` when there is none.

    Raises `StoreRefused` for a file that is sound and not Holdfast's.
    """
    if not os.path.lexists(path):
        return None
    refuse_strange(path)
    try:
        with closing(open_to_read(path)) as connection:
            inside = look_inside(connection)
            refuse_damaged(connection, path)
            if not inside.tables or (inside.revision is not None and inside.authority is None):
                return None
            if inside.revision is None:
                raise _NotOurs(f"{path} is a SQLite file that is not a Holdfast store; it was not touched")
            return inside, connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
    except _NotOurs:
        raise
    except (sqlite3.Error, StoreRefused) as error:
        if kind_of(error) is not Kind.REFUSED:
            raise
        return None


class _NotOurs(StoreRefused):
    """A file of somebody else."""


def _merge(
    path: Path, file: Path, inside: Inside, backup: Backup, wishes: Wishes, known: bool, adopt: bool, tell: Tell
) -> Merged:
    """Merge the sessions of a file into the store, in one transaction."""
    with turn(path), closing(connect(path, "rw")) as connection:
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "mmap_size = 0", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(f"ATTACH ? AS {RESTORED}", (f"{file.absolute().as_uri()}?mode=ro&immutable=1",))
        columns = [row[1] for row in connection.execute(f"PRAGMA {RESTORED}.table_info(sessions)")]
        noted = [row[1] for row in connection.execute(f"PRAGMA {RESTORED}.table_info(holdfast_imported)")]
        statements = MergeStatements(tables(None), columns, noted)
        tell("loaded", 0)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not look_inside(connection).is_still(inside):
                raise StoreUnavailable(f"SQLite file {path} was changed while it was looked at; try again")
            numbers: dict[str, int] = {}
            for name, text in statements.steps(known=known, keep=wishes.keep_sessions_live):
                done = connection.execute(text)
                numbers[name] = done.fetchone()[0] if text.startswith("SELECT") else done.rowcount
                tell(name, numbers[name])
            if adopt and (store_id := backup.manifest.store_id) is not None:
                connection.execute("UPDATE holdfast_control SET store_id = ? WHERE id = 1", (store_id.hex,))
            tell("merged", 0)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        tell("committed", 0)
        return Merged(**numbers)


@asynccontextmanager
async def _usable(backup: Backup, path: Path) -> AsyncIterator[Path]:
    """The backup's own file, or a copy of it brought up to date when it is of an earlier revision."""
    if is_newest(backup.manifest.revision):
        yield backup.path / DATA
        return
    with folder_beside(path) as folder:
        file = await asyncio.to_thread(copied, backup, folder)
        await schema.upgrade(SqliteAddress(file))
        with closing(connect(file, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        yield file
