"""A store of each kind, and a directory for its backups."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast import SessionManager
from holdfast.backups.archive import Backup, read, tell_nobody
from holdfast.backups.restore import restore
from holdfast.backups.restoring import Restored, Wishes
from holdfast.backups.take import take
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from tests.backups.killed import Killer
from tests.conftest import MigratedDatabases
from tests.support.admin import execute

OPTIONS = StoreOptions()
PATIENT = StoreOptions(deadline=30.0)


@dataclass(frozen=True)
class Place:
    """A store, and where its backups go."""

    address: str
    folder: Path
    options: StoreOptions = OPTIONS

    @property
    def parsed(self) -> SqliteAddress | PostgresqlAddress:
        """As the package takes it."""
        return parse_address(self.address)

    @property
    def is_sqlite(self) -> bool:
        """Which kind it is."""
        return isinstance(self.parsed, SqliteAddress)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        assert isinstance(self.parsed, SqliteAddress)
        return self.parsed.path

    def manager(self, **options: Any) -> SessionManager:
        """A manager that changes nothing by itself."""
        # What a killed command has locked on a server is free once that notices: on a busy machine not at once.
        return SessionManager(self.address, sweep_interval=None, **{"options": PATIENT, **options})

    async def backup(self) -> Backup:
        """Take a backup."""
        return await take(self.parsed, self.options, self.folder)

    async def restore(self, source: Path, **wishes: bool) -> Restored:
        """Put a backup back."""
        return await restore(self.parsed, self.options, source, self.folder, Wishes(**wishes), tell_nobody)

    def run(self, *statements: str) -> list[list[Any]]:
        """Run SQL, past Holdfast; the rows of the last statement."""
        if not self.is_sqlite:
            return execute(self.address, *statements)
        with closing(sqlite3.connect(self.address)) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
            connection.commit()
        return [list(row) for row in rows]

    def lose(self) -> None:
        """Lose the store with everything in it."""
        if self.is_sqlite:
            for each in self.path.parent.glob(f"{self.path.name}*"):
                each.unlink()
        else:
            self.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def backups(self) -> list[Backup]:
        """All that a command would take for a backup."""
        return [read(each) for each in sorted(self.folder.glob("*.holdfast"))] if self.folder.exists() else []


def made_place(kind: str, folder: Path, migrated_database: MigratedDatabases) -> Place:
    """A store with its tables."""
    if kind == "postgresql":
        return Place(migrated_database(None), folder / "backups")
    address = folder / "store" / "sessions.db"
    asyncio.run(schema.upgrade(address))
    return Place(str(address), folder / "backups")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> Place:
    """A store of each kind in turn."""
    return made_place(request.param, tmp_path, migrated_database)


@pytest.fixture
def file_place(tmp_path: Path, migrated_database: MigratedDatabases) -> Place:
    """A store in a SQLite file."""
    return made_place("sqlite", tmp_path, migrated_database)


@pytest.fixture(scope="session")
def killer() -> Iterator[Killer]:
    """Runs a backup, restore or prune in a process of its own that dies at a given step."""
    with Killer() as made:
        yield made


def edited(source: Path, **changes: Any) -> Path:
    """A copy of a backup whose manifest says something else."""
    import json

    target = source.with_name(source.name.replace("-sqlite-", "-edited-").replace("-postgresql-", "-edited-"))
    shutil.copytree(source, target)
    manifest = target / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))
    return target
