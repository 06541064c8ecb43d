"""SQLite, PostgreSQL, a legacy file and two stores followed as one answer random histories as the model does."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast.legacy.store import LegacyStore
from holdfast.move.following import FollowingStore
from holdfast.sessions.store import MovableStore, Store, StoreOptions
from holdfast.sql.address import SqliteAddress
from holdfast.sql.stores import store_at
from holdfast.testing.machine import StoreFactory, run_machine
from tests.conftest import MigratedDatabases
from tests.legacy.old_application import legacy_file
from tests.move.authority import Pair
from tests.support.admin import execute
from tests.support.soaked import Tell

HISTORIES = int(os.environ.get("HOLDFAST_TEST_HISTORIES") or 1000)
"""How many the soak runs on each store, of up to 80 steps: some minutes on a machine with nothing else to do."""


@pytest.fixture
def sqlite_files() -> Iterator[StoreFactory]:
    """A fresh file for every history."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        async def new_store() -> Store:
            return store_at(Path(folder) / f"{next(numbers)}.db", StoreOptions())

        yield new_store


@pytest.fixture
def legacy_files() -> Iterator[StoreFactory]:
    """A fresh legacy file for every history."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        async def new_store() -> Store:
            path = legacy_file(Path(folder) / f"{next(numbers)}.db")
            return LegacyStore(SqliteAddress(path), StoreOptions(), ZoneInfo("UTC"))

        yield new_store


def followed(migrated_database: MigratedDatabases, folder: Path, serving: str) -> StoreFactory:
    """Two stores, of which one serves: a fresh file for every history, and one database, emptied where it serves."""
    address, numbers = migrated_database(None), count()

    async def made() -> Path:
        pair = await Pair.made(folder / "empty.db", address)
        await pair.give(serving)
        return pair.path

    empty = asyncio.run(made())

    def movable(place: str | Path) -> MovableStore:
        return store_at(place, StoreOptions(connections=2, follows=True))

    async def new_store() -> Store:
        path = folder / f"{next(numbers)}.db"
        shutil.copy(empty, path)
        if serving == "postgresql":
            empty_tables(address)
        return FollowingStore(movable(path), movable(address), preferred=None, deadline=5.0)

    return new_store


def empty_tables(address: str) -> None:
    """Take what the last history left out of a database."""
    execute(address, "TRUNCATE sessions, holdfast_tickets", "UPDATE holdfast_control SET hooks_expected_at = NULL")


def emptied(migrated_database: MigratedDatabases, version: int) -> StoreFactory:
    """One database, emptied for every history: a new one each time would be most of the run."""
    address = migrated_database(version)

    async def new_store() -> Store:
        empty_tables(address)
        return store_at(address, StoreOptions(connections=2))

    return new_store


def test_sqlite_answers_as_the_model(sqlite_files: StoreFactory) -> None:
    """2.9 layer 2, promise 9: random histories on SQLite and the model agree at every step."""
    run_machine(sqlite_files, examples=25, steps=30)


@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("migrated_database", [[16, 18]], indirect=True, ids=["postgresql"])
def test_postgresql_answers_as_the_model(version: int, migrated_database: MigratedDatabases) -> None:
    """2.9 layer 2, promise 9: the same on PostgreSQL 16 and 18."""
    run_machine(emptied(migrated_database, version), examples=20, steps=30)


def test_a_legacy_file_answers_as_the_model(legacy_files: StoreFactory) -> None:
    """2.9 layer 2, promise 9: the same on an application's own table, served as it is."""
    run_machine(legacy_files, examples=15, steps=30)


@pytest.mark.parametrize("serving", ["sqlite", "postgresql"])
def test_followed_stores_answer_as_the_model(
    serving: str, migrated_database: MigratedDatabases, tmp_path: Path
) -> None:
    """2.9 layer 2, promise 9: the same on two stores followed as one, whichever of them serves."""
    run_machine(followed(migrated_database, tmp_path, serving), examples=10, steps=30)


@pytest.mark.soak
def test_sqlite_answers_as_the_model_for_long(sqlite_files: StoreFactory, tell: Tell) -> None:
    """2.9 layer 6: many more, and longer, histories on SQLite."""
    tell(f"{HISTORIES} histories")
    run_machine(sqlite_files, examples=HISTORIES, steps=80)


@pytest.mark.soak
@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("migrated_database", [[16, 18]], indirect=True, ids=["postgresql"])
def test_postgresql_answers_as_the_model_for_long(
    version: int, migrated_database: MigratedDatabases, tell: Tell
) -> None:
    """2.9 layer 6: many more, and longer, histories on PostgreSQL."""
    tell(f"{HISTORIES} histories")
    run_machine(emptied(migrated_database, version), examples=HISTORIES, steps=80)


@pytest.mark.soak
def test_a_legacy_file_answers_as_the_model_for_long(legacy_files: StoreFactory, tell: Tell) -> None:
    """2.9 layer 6: many more, and longer, histories on a legacy file."""
    tell(f"{HISTORIES} histories")
    run_machine(legacy_files, examples=HISTORIES, steps=80)


@pytest.mark.soak
@pytest.mark.parametrize("serving", ["sqlite", "postgresql"])
def test_followed_stores_answer_as_the_model_for_long(
    serving: str, migrated_database: MigratedDatabases, tmp_path: Path, tell: Tell
) -> None:
    """2.9 layer 6: many more, and longer, histories on two stores followed as one."""
    tell(f"{HISTORIES} histories")
    run_machine(followed(migrated_database, tmp_path, serving), examples=HISTORIES, steps=80)
