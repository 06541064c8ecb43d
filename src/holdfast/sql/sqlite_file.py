"""A SQLite file: made for its owner alone, refused if it is a strange one, told from another one, and connected to."""

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from holdfast.sessions.errors import StoreRefused
from holdfast.sql.failures import explained

BUSY_MILLISECONDS: Final = 500
"""How long a connection waits for another program to let go of a lock."""
# Beside a store, in a command, there is more time.
_BESIDE_SECONDS: Final = 30.0

log = logging.getLogger("holdfast.sql")


def prepare_file(path: Path) -> None:
    """Make the file, owner-only whatever the umask, and its directories. An existing one is left as it is.

    Raises `StoreRefused` for a symbolic link, which could lead the sessions anywhere, and for what is not a file.
    """
    try:
        make_directory(path.parent)
        _refuse_links(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        refuse_strange(path)
    except OSError as error:
        raise StoreRefused(
            f"SQLite file {path} cannot be made ({error.strerror}); check the path and the permissions of its directory"
        ) from error


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, as far as they are missing: owner-only, whatever the umask."""
    # Each by itself: with `parents=True` all but the last would be open to whom the umask lets in.
    for each in reversed([each for each in (path, *path.parents) if not each.exists()]):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)


def refuse_strange(path: Path) -> None:
    """Raise `StoreRefused` for a symbolic link, and for what is not a file or is not there."""
    try:
        _refuse_links(path)
        found = path.lstat()
    except OSError as error:
        raise StoreRefused(f"SQLite file {path} cannot be opened ({error.strerror}); check the path") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreRefused(f"{path} is not a file; give the path of a SQLite file")
    if found.st_mode & 0o077:
        log.warning("others than the owner may open %s; `chmod 600` it, and its -wal and -shm", path)
    if found.st_nlink > 1:
        # A log has the name of its file: under another name the file is read without it, and written past it.
        log.warning("%s has another name, a hard link; programs that use both damage the file: keep one", path)


def _refuse_links(path: Path) -> None:
    """Refuse links in place of the file, and of the files beside it: SQLite would follow the one to a log."""
    for suffix in ("", "-wal", "-shm", "-journal", "-lock"):
        each = path.with_name(f"{path.name}{suffix}")
        if each.is_symlink():
            raise StoreRefused(
                f"{each} is a symbolic link; " + ("remove it" if suffix else "give the path of the file itself")
            )


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name; `None` when there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def file_url(driver: str, path: Path) -> URL:
    """A file's address for SQLAlchemy. Not put together as text, which it would decode: `%` is a letter of a path."""
    return URL.create(driver, database=str(path.absolute()))


def engine(path: Path) -> Engine:
    """A synchronous engine with one connection, for the writer and for migrations, durable and in WAL mode."""
    made = create_engine(
        file_url("sqlite+pysqlite", path),
        poolclass=StaticPool,
        # The driver must not begin transactions by itself: a deferred one that reads and then writes fails at once.
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_MILLISECONDS / 1000},
    )

    @event.listens_for(made, "connect")
    def prepare(driver: sqlite3.Connection, _: object) -> None:
        driver.execute("PRAGMA journal_mode = WAL").fetchall()
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute("PRAGMA mmap_size = 0").fetchall()
        driver.execute("PRAGMA journal_size_limit = 67108864").fetchall()
        # Checkpoints are made under our own lock, see `Writer._committed`.
        driver.execute("PRAGMA wal_autocheckpoint = 0").fetchall()

    return made


def reading_engine(path: Path) -> Engine:
    """A synchronous engine that can only read, and leaves the file's journal mode as it is."""
    # Asked for through the driver: SQLAlchemy's own spelling would decode the path a second time.
    uri = f"{path.absolute().as_uri()}?mode=ro"
    seconds = BUSY_MILLISECONDS / 1000
    return create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=seconds, check_same_thread=False),
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A plain connection: `mode` is `ro`, `rw`, or `ro&immutable=1` for a file that nobody changes."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BESIDE_SECONDS, isolation_level=None, check_same_thread=False)


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection to a file that others use, which reads and changes nothing.

    Only where a program died while it wrote, without a log, the next to open the file has to undo its half of a
    transaction first, as that program would have done.
    """
    try:
        return _that_answers(path, "ro")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        if code not in ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY", "SQLITE_CANTOPEN"):
            raise
    return _that_answers(path, "rw")


def _that_answers(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that has been asked something: SQLite opens a file no earlier."""
    connection = connect(path, mode)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reading(path: Path, where: str | None = None) -> Iterator[sqlite3.Connection]:
    """As `open_to_read`; its failures are said in our own words, of `where` or else of the file."""
    with explained(where or f"SQLite file {path}", sqlite3.Error), closing(open_to_read(path)) as connection:
        yield connection


def size_of(path: Path) -> int:
    """Bytes of a file and its log."""
    size = 0
    for each in (path, path.with_name(f"{path.name}-wal")):
        # The log goes when the last of the others closes the file, maybe now.
        with suppress(FileNotFoundError):
            size += each.stat().st_size
    return size
