"""A copy of a SQLite file while others write to it: in one step, because small steps begin anew at every commit."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.backups.archive import COUNTED, Tell, owner_only
from holdfast.backups.inside import Inside
from holdfast.sessions.errors import StoreRefused
from holdfast.sql.sqlite_file import connect
from holdfast.sql.tables import VERSION_TABLE

# Steps of SQLite's own, of which it does some tens of millions a second, between two looks at how far a copy is.
_STEPS: Final = 50_000


@dataclass(frozen=True, slots=True)
class InsideFile(Inside):
    """What a SQLite file is."""

    tables: tuple[str, ...]
    """The names of all its tables."""


def look_inside(connection: sqlite3.Connection) -> InsideFile:
    """What the file of a connection is."""
    now = connection.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").fetchone()[0]
    tables = tuple(name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
    revision = store_id = authority = None
    if VERSION_TABLE in tables and "sessions" in tables and "holdfast_control" in tables:
        revision = next(iter(connection.execute("SELECT version_num FROM holdfast_version")), (None,))[0]
        columns = {row[1] for row in connection.execute("PRAGMA table_info(holdfast_control)")}
        identity = "store_id" if "store_id" in columns else "NULL"
        row = connection.execute(f"SELECT authority, {identity} FROM holdfast_control").fetchone()  # noqa: S608 - a name
        authority = None if row is None else row[0]
        store_id = None if row is None or row[1] is None else UUID(row[1])
    return InsideFile(revision, store_id, authority, datetime.fromisoformat(now).replace(tzinfo=UTC), tables)


def copy(source: sqlite3.Connection, inside: Inside, target: Path, tell: Tell) -> dict[str, int]:
    """Copy the file into a new one; how many rows each of its tables has, counted there.

    Of Holdfast's own only what is alive is copied, without the pages that deleted rows are left in; any other file
    is kept page by page. Raises `StoreRefused` when the copy is not sound, because the file is damaged.
    """
    owner_only(target)
    if inside.revision is not None:
        with _watched(source, target, tell):
            source.execute("VACUUM INTO ?", (str(target.absolute()),))
    else:
        with closing(connect(target, "rw")) as copied:
            source.backup(copied, pages=-1)
    tell("copied", 0)
    tell("checking", 0)
    rows = sound(target)
    tell("verified", sum(rows.values()))
    return rows


@contextmanager
def _watched(source: sqlite3.Connection, target: Path, tell: Tell) -> Iterator[None]:
    """Tell how far a copy is: so many of the sessions as the target has of its bytes."""
    rows = source.execute("SELECT count(*) FROM sessions").fetchone()[0]
    pages, free, page = (
        source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    whole = max((pages - free) * page, 1)
    tell(COUNTED, rows)

    def look() -> None:
        tell("copying", min(rows, rows * target.stat().st_size // whole))

    source.set_progress_handler(look, _STEPS)
    try:
        yield
    finally:
        source.set_progress_handler(None, 0)


def sound(path: Path) -> dict[str, int]:
    """The rows of each table of a file that nobody changes. Raises `StoreRefused` when SQLite finds it damaged."""
    with closing(connect(path, "ro&immutable=1")) as connection:
        refuse_damaged(connection, path)
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
            )
        ]
        return {name: connection.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()[0] for name in tables}  # noqa: S608 - a quoted name


def refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreRefused` when SQLite finds anything wrong with a file."""
    if [row[0] for row in connection.execute("PRAGMA integrity_check(1)")] != ["ok"]:
        raise StoreRefused(f"SQLite file {path} is damaged; restore a backup, or try `sqlite3 FILE .recover`")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
