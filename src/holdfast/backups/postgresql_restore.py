"""Put a backup back into PostgreSQL: in one transaction, which running servers see as one change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from holdfast.backups.archive import COUNTED, Backup, Tell
from holdfast.backups.inside import Inside
from holdfast.backups.merging import RESTORED, RESTORED_NOTES, Merged, MergeStatements
from holdfast.backups.postgresql_copy import copy_in, look_inside
from holdfast.backups.restoring import Restored, Wishes, is_known
from holdfast.backups.take import take
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.connections import for_this_transaction
from holdfast.sql.listener import EVERYTHING, channel_of
from holdfast.sql.tables import qualified, tables
from holdfast.sql.transactions import driver_transaction

DATA: Final = "sessions.copy"
NOTES: Final = "holdfast_imported.copy"
_LOCK_MILLISECONDS: Final = "2000"


async def restore(
    address: PostgresqlAddress, options: StoreOptions, backup: Backup, directory: Path, wishes: Wishes, tell: Tell
) -> Restored:
    """Put a verified backup of a PostgreSQL store back. See `restore.restore`."""
    inside, _ = await _present(address, options)
    fresh = inside.revision is None
    if fresh:
        # An empty store without the backup's identity: if this is killed now, the next attempt finds it and goes on.
        await schema.upgrade(address, options)
    await schema.require(address, options)
    inside, sessions = await _present(address, options)
    known = is_known(backup, f"PostgreSQL at {address}", inside.store_id, sessions, inside.authority, wishes)
    before = None if fresh else await take(address, options, directory, tell)
    merged = await _merge(address, options, backup, wishes, inside, known, not known and not sessions, tell)
    tell("committed", 0)
    return Restored(merged, None if before is None else before.path)


async def _present(address: PostgresqlAddress, options: StoreOptions) -> tuple[Inside, int]:
    """What is there, and how many sessions."""
    async with driver_transaction(address, options, reading=True) as connection:
        inside = await look_inside(connection, options.schema)
        if inside.revision is None:
            return inside, 0
        sessions: int = await connection.fetchval(
            f"SELECT count(*) FROM {qualified(options.schema, 'sessions')}"  # noqa: S608 - checked names
        )
        return inside, sessions


async def _merge(
    address: PostgresqlAddress,
    options: StoreOptions,
    backup: Backup,
    wishes: Wishes,
    inside: Inside,
    known: bool,
    adopt: bool,
    tell: Tell,
) -> Merged:
    """Merge the sessions of a backup into the store, in one transaction."""
    own, file = tables(options.schema), backup.manifest.files[DATA]
    if unknown := set(file.columns) - set(own.sessions.columns.keys()):
        raise StoreRefused(f"{backup.path} has columns this version does not know: {', '.join(sorted(unknown))}")
    # Earlier revisions had none.
    notes = backup.manifest.files.get(NOTES)
    statements = MergeStatements(own, file.columns, () if notes is None else notes.columns)
    place = qualified(options.schema, "sessions")
    async with driver_transaction(address, options) as connection:
        await connection.execute(f"CREATE TEMPORARY TABLE {RESTORED} (LIKE {place} INCLUDING DEFAULTS) ON COMMIT DROP")
        tell(COUNTED, file.rows["sessions"])
        rows = await copy_in(connection, RESTORED, file.columns, backup.path / DATA, tell)
        if rows != file.rows["sessions"]:
            raise StoreRefused(f"the backup {backup.path} is damaged: it has {rows} sessions; use another")
        if notes is not None:
            imported = qualified(options.schema, "holdfast_imported")
            await connection.execute(f"CREATE TEMPORARY TABLE {RESTORED_NOTES} (LIKE {imported}) ON COMMIT DROP")
            await copy_in(connection, RESTORED_NOTES, notes.columns, backup.path / NOTES, tell)
        await connection.execute(f"ANALYZE {RESTORED}")
        tell("loaded", rows)
        # From here to the end writers wait, and readers do not. Behind a stranger's long transaction they would wait
        # with us before we have done anything: that must not take long.
        await connection.execute(for_this_transaction({"lock_timeout": _LOCK_MILLISECONDS}))
        await connection.execute(f"LOCK TABLE {place} IN SHARE ROW EXCLUSIVE MODE")
        await _refuse_changed(connection, options, inside)
        numbers: dict[str, int] = {}
        for name, text in statements.steps(known=known, keep=wishes.keep_sessions_live):
            run: Callable[[Any], Any] = connection.fetchval if text.startswith("SELECT") else connection.execute
            answer = await run(text)
            numbers[name] = answer if isinstance(answer, int) else int(answer.rpartition(" ")[2])
            tell(name, numbers[name])
        await _identify(connection, options, backup, inside, adopt)
        if numbers["ended_again"]:
            await connection.execute("SELECT pg_notify($1, $2)", channel_of(options.schema), EVERYTHING)
        tell("merged", 0)
    return Merged(**numbers)


async def _refuse_changed(connection: Any, options: StoreOptions, seen: Inside) -> None:
    now = await look_inside(connection, options.schema)
    if not now.is_still(seen):
        raise StoreUnavailable("the store was changed while it was looked at; nothing was restored, try again")


async def _identify(connection: Any, options: StoreOptions, backup: Backup, inside: Inside, adopt: bool) -> None:
    """Give an empty store the identity of the backup, and one that lost its control row a new one."""
    control, store_id = qualified(options.schema, "holdfast_control"), backup.manifest.store_id
    if inside.authority is None:
        await connection.execute(
            f"INSERT INTO {control} (id, authority, epoch, store_id) "  # noqa: S608 - checked names
            "VALUES (1, 'here', 1, coalesce($1, gen_random_uuid()))",
            store_id,
        )
    elif adopt and store_id is not None:
        await connection.execute(f"UPDATE {control} SET store_id = $1 WHERE id = 1", store_id)  # noqa: S608 - checked names
