"""Put a backup back: checks that need no database, then the database's own way."""

import asyncio
from pathlib import Path

from holdfast.backups import postgresql_restore, sqlite_replace, sqlite_restore
from holdfast.backups.archive import Tell, read, tell_nobody, verify
from holdfast.backups.restoring import Restored, Wishes, refuse_stale
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.revisions import refuse_newer


async def restore(
    address: SqliteAddress | PostgresqlAddress,
    options: StoreOptions,
    source: Path,
    directory: Path,
    wishes: Wishes | None = None,
    tell: Tell = tell_nobody,
) -> Restored:
    """Put a backup back into a store, all or nothing; a backup of what is there goes into `directory` first.

    A session that has ended stays ended, an erased user stays erased, a token that was replaced stays dead; sessions
    that came since stay. When nobody knows what ended since, because the store is lost, every session comes back
    ended, unless that is wished otherwise. Safe to repeat. Raises `StoreRefused` for a backup that is damaged, is no
    backup, is of another kind or another store or a newer version; `StoreUnavailable` when a database or a disk does
    not let us, and `AuthorityMoved` when the store accepts no writes. Then nothing was changed.
    """
    wishes = wishes or Wishes()
    backup = read(source)
    await asyncio.to_thread(verify, backup)
    tell("checked", 0)
    kind = backup.manifest.kind
    if kind == "table":
        raise StoreRefused(
            f"{source} is the copy of an application's own table that an import took; `holdfast db import --in-place "
            "--undo` puts that table back, or load the file in it with psql's \\copy"
        )
    if (kind == "postgresql") != isinstance(address, PostgresqlAddress):
        raise StoreRefused(
            f"{source} is a backup of {'PostgreSQL' if kind == 'postgresql' else 'a SQLite file'}; "
            f"say where to with {'--postgres' if kind == 'postgresql' else '--sqlite'}"
        )
    data = postgresql_restore.DATA if kind == "postgresql" else sqlite_replace.DATA
    if data not in backup.manifest.files:
        raise StoreRefused(f"the backup {source} has no sessions in it")
    if isinstance(address, PostgresqlAddress):
        refuse_newer(backup.manifest.revision)
        refuse_stale(backup)
        return await postgresql_restore.restore(address, options, backup, directory, wishes, tell)
    if kind == "legacy":
        return await asyncio.to_thread(sqlite_restore.restore_legacy, address.path, backup, wishes, tell)
    refuse_newer(backup.manifest.revision)
    refuse_stale(backup)
    return await sqlite_restore.restore(address, options, backup, directory, wishes, tell)
