"""SQLite and both versions of PostgreSQL answer random histories as the model does."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from holdfast.sessions.store import Store, StoreOptions
from holdfast.sql.stores import store_at
from holdfast.testing.machine import StoreFactory, run_machine
from tests.conftest import MigratedDatabases
from tests.support.admin import execute


@pytest.fixture
def sqlite_files() -> Iterator[StoreFactory]:
    """A fresh file for every history."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        async def new_store() -> Store:
            return store_at(Path(folder) / f"{next(numbers)}.db", StoreOptions())

        yield new_store


def emptied(migrated_database: MigratedDatabases, version: int) -> StoreFactory:
    """One database, emptied for every history: a new one each time would be most of the run."""
    address = migrated_database(version)

    async def new_store() -> Store:
        execute(address, "TRUNCATE sessions, holdfast_tickets", "UPDATE holdfast_control SET hooks_expected_at = NULL")
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


@pytest.mark.soak
def test_sqlite_answers_as_the_model_for_long(sqlite_files: StoreFactory) -> None:
    """2.9 layer 6: many more, and longer, histories on SQLite."""
    run_machine(sqlite_files, examples=1000, steps=80)


@pytest.mark.soak
@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("migrated_database", [[16, 18]], indirect=True, ids=["postgresql"])
def test_postgresql_answers_as_the_model_for_long(version: int, migrated_database: MigratedDatabases) -> None:
    """2.9 layer 6: many more, and longer, histories on PostgreSQL."""
    run_machine(emptied(migrated_database, version), examples=1000, steps=80)
