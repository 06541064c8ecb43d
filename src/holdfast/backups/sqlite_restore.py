"""Put a backup back into a SQLite file.

A sound file gets it in one transaction: servers that have it open simply see it, and a crash leaves all or nothing.
A damaged file is moved aside whole, and a new one takes its place.
"""

import asyncio
import fcntl
import glob
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from holdfast.backups.archive import Backup, Tell, hashed, out_of_room, owner_only, refuse_full, sync
from holdfast.backups.merging import RESTORED, Merged, MergeStatements
from holdfast.backups.restoring import Restored, Wishes, is_known
from holdfast.backups.sqlite_copy import Inside, connect, look_inside, named, open_to_read, refuse_damaged
from holdfast.backups.take import take
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import SqliteAddress
from holdfast.sql.failures import Kind, kind_of
from holdfast.sql.tables import tables
from holdfast.sql.writer import refuse_strange

DATA: Final = "sessions.db"
_TURN_SECONDS: Final = 30.0
# What stands in the file's place while its log is taken away: no program takes it for a database.
_STAND_IN: Final = b"A restore of this Holdfast store is under way, or was killed. Run `holdfast db restore` again.\n"
_BESIDE: Final = ("-wal", "-journal", "-shm")


async def restore(
    address: SqliteAddress, options: StoreOptions, backup: Backup, directory: Path, wishes: Wishes, tell: Tell
) -> Restored:
    """Put a verified backup of a SQLite store back. See `restore.restore`."""
    path, where = address.path, f"SQLite file {address.path}"
    await asyncio.to_thread(_clear_leftovers, path)
    with named(where), out_of_room(path.parent):
        found = await asyncio.to_thread(_present, path)
        refuse_full(_existing(path.parent), 2 * backup.manifest.files[DATA].size)
        if found is None:
            return await _replace(path, backup, wishes, tell)
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
    with out_of_room(path.parent):
        refuse_full(_existing(path.parent), backup.manifest.files[DATA].size)
        with _folder(path) as folder:
            file = _copied(backup, folder)
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
    with _turn(path), closing(connect(path, "rw")) as connection:
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "mmap_size = 0", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(f"ATTACH ? AS {RESTORED}", (f"{file.absolute().as_uri()}?mode=ro&immutable=1",))
        columns = [row[1] for row in connection.execute(f"PRAGMA {RESTORED}.table_info(sessions)")]
        statements = MergeStatements(tables(None), columns)
        tell("loaded", 0)
        connection.execute("BEGIN IMMEDIATE")
        try:
            now = look_inside(connection)
            if (now.store_id, now.authority, now.revision) != (inside.store_id, inside.authority, inside.revision):
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


async def _replace(path: Path, backup: Backup, wishes: Wishes, tell: Tell) -> Restored:
    """Put a new file in the place of one that is damaged, or gone."""
    _refuse_served(path)
    with _folder(path) as folder:
        file = await asyncio.to_thread(_copied, backup, folder)
        await schema.upgrade(SqliteAddress(file))
        merged = await asyncio.to_thread(_finish, file, wishes, tell)
        aside = await asyncio.to_thread(_swap, path, file, tell)
    return Restored(merged, aside=aside)


def _finish(file: Path, wishes: Wishes, tell: Tell) -> Merged:
    """Make a copy of a backup fit to be served: nothing in it that may have ended since is live."""
    statements = MergeStatements(tables(None), ())
    with closing(connect(file, "rw")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        sessions = connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
        connection.execute(statements.text(statements.forget_tickets))
        connection.execute(statements.text(statements.forget_hooks))
        if not wishes.keep_sessions_live:
            connection.execute(statements.text(statements.end_everything))
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'holdfast_move'").fetchone() is not None:
            # A move that was under way followed the lost file: it must not take this one's log for the rest of that.
            connection.execute("UPDATE holdfast_move SET capture = ?", (str(uuid4()),))
        connection.execute("COMMIT")
        # All in one file, with no log beside it.
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    sync(file)
    tell("merged", sessions)
    return Merged(brought_back=sessions) if wishes.keep_sessions_live else Merged(brought_back_ended=sessions)


def _swap(path: Path, file: Path, tell: Tell) -> list[Path]:
    """Move what is there aside, and the new file into its place; where the old files are now.

    The log of the old file must never be met by the new one, nor the old file be opened without its log: between the
    two a stand-in has the name, which everybody refuses.
    """
    stand_in = owner_only(file.with_name("stand-in"))
    stand_in.write_bytes(_STAND_IN)
    sync(stand_in)
    mark = f".before-restore-{secrets.token_hex(4)}"
    aside: list[Path] = []
    with _turn(path):
        if os.path.lexists(path) and hashed(path) != hashed(stand_in):
            aside = [_linked(path, path, mark)]
            aside += [_linked(each, path, mark) for each in _beside(path) if not each.name.endswith("-shm")]
        sync(path.parent)
        tell("linked", 0)
        stand_in.replace(path)
        sync(path.parent)
        tell("stood in", 0)
        for each in _beside(path):
            each.unlink()
        sync(path.parent)
        tell("cleared", 0)
        file.replace(path)
        sync(path.parent)
    tell("replaced", 0)
    return aside


def _linked(each: Path, path: Path, mark: str) -> Path:
    """A second name for a file: SQLite finds a log by its file's name, so the mark goes in between."""
    target = path.with_name(f"{path.name}{mark}{each.name.removeprefix(path.name)}")
    os.link(each, target)
    return target


def _beside(path: Path) -> list[Path]:
    named = [path.with_name(f"{path.name}{suffix}") for suffix in _BESIDE]
    return [each for each in named if os.path.lexists(each)]


@asynccontextmanager
async def _usable(backup: Backup, path: Path) -> AsyncIterator[Path]:
    """The backup's own file, or a copy of it brought up to date when it is of an earlier revision."""
    if schema.is_newest(backup.manifest.revision):
        yield backup.path / DATA
        return
    with _folder(path) as folder:
        file = await asyncio.to_thread(_copied, backup, folder)
        await schema.upgrade(SqliteAddress(file))
        with closing(connect(file, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        yield file


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder beside the file, on the same file system, gone afterwards."""
    for each in reversed([each for each in path.parents if not each.exists()]):
        each.mkdir(mode=0o700, exist_ok=True)
    folder = path.with_name(f".{path.name}.restore-{secrets.token_hex(4)}.partial")
    folder.mkdir(mode=0o700)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _clear_leftovers(path: Path) -> None:
    """Remove what killed restores of this file left. One that is at work has its folder locked."""
    for each in path.parent.glob(f".{glob.escape(path.name)}.restore-*.partial"):
        with suppress(OSError):
            held = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each)
            finally:
                os.close(held)


def _copied(backup: Backup, folder: Path) -> Path:
    file = owner_only(folder / DATA)
    shutil.copyfile(backup.path / DATA, file)
    return file


def _existing(folder: Path) -> Path:
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Keep the servers' writers off the file, as they keep each other off."""
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        limit = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= limit:
                    raise StoreUnavailable(f"another process keeps SQLite file {path} locked; try again") from error
                time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)


def _refuse_served(path: Path) -> None:
    """Raise `StoreRefused` when another process has the file open, as far as this system lets us see it."""
    names = {str(each.absolute().resolve()) for each in (path, *_beside(path))}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in names:
                        raise StoreRefused(
                            f"process {process.name} has {path} open, which has to be replaced; stop it first"
                        )
