"""A new SQLite file in the place of one that is damaged, or gone. The old one is kept beside it, whole."""

import asyncio
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from holdfast.backups.archive import Backup, Tell, hashed, owner_only, sync
from holdfast.backups.merging import Merged, MergeStatements
from holdfast.backups.restoring import Restored, Wishes
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sql import schema
from holdfast.sql.address import SqliteAddress
from holdfast.sql.sqlite_file import connect, make_directory
from holdfast.sql.tables import tables
from holdfast.sql.turns import give_to_owner_of, open_lock, take_turn

DATA: Final = "sessions.db"
_TURN_SECONDS: Final = 30.0
# What stands in the file's place while its log is taken away: no program takes it for a database.
_STAND_IN: Final = b"A restore of this Holdfast store is under way, or was killed. Run `holdfast db restore` again.\n"
_BESIDE: Final = ("-wal", "-journal", "-shm")


async def replace(path: Path, backup: Backup, wishes: Wishes, tell: Tell) -> Restored:
    """Put a new file in the place of one that is damaged, or gone."""
    _refuse_served(path)
    with folder_beside(path) as folder:
        file = await asyncio.to_thread(copied, backup, folder)
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
    give_to_owner_of(path, file)
    with turn(path):
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


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A folder beside the file, on the same file system, gone afterwards."""
    make_directory(path.parent)
    folder = path.with_name(f".{path.name}.restore-{secrets.token_hex(4)}.partial")
    folder.mkdir(mode=0o700)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def clear_leftovers(path: Path) -> None:
    """Remove what killed restores of this file left. One that is at work has its folder locked."""
    for each in path.parent.glob(f".{glob.escape(path.name)}.restore-*.partial"):
        with suppress(OSError):
            held = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each)
            finally:
                os.close(held)


def copied(backup: Backup, folder: Path) -> Path:
    """A copy of a backup's file in a folder."""
    file = owner_only(folder / DATA)
    shutil.copyfile(backup.path / DATA, file)
    return file


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Keep the servers' writers off the file, as they keep each other off."""
    lock = open_lock(path)
    try:
        try:
            take_turn(lock, _TURN_SECONDS)
        except BlockingIOError as error:
            raise StoreUnavailable(f"another process keeps SQLite file {path} locked; try again") from error
        yield
    finally:
        os.close(lock)


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
