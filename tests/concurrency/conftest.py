"""The stores that the races run on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.concurrency.place import Place
from tests.conftest import MigratedDatabases
from tests.support.postgres import PostgresCluster

SHARED = ["sqlite", "postgresql-16", "postgresql-18"]
"""Stores that several servers can share."""


@pytest.fixture
def place_named(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases
) -> Callable[[str], Place]:
    """`place_named("sqlite")` is a fresh store of this test's own."""

    def place(name: str) -> Place:
        kind, _, version = name.partition("-")
        if kind == "memory":
            return Place("memory", "")
        if kind == "sqlite":
            return Place("sqlite", f"sqlite:///{tmp_path / 'sessions.db'}")
        address = migrated_database(int(version))
        server = request.getfixturevalue(f"postgres_{version}")
        assert isinstance(server, PostgresCluster)
        return Place("postgresql", address, server.log, len(server.log.read_text(errors="replace")))

    return place


@pytest.fixture(params=["memory", *SHARED])
def place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    """Every store in turn."""
    return place_named(request.param)


@pytest.fixture(params=SHARED)
def shared_place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    """Every store that two servers can share, in turn."""
    return place_named(request.param)


@pytest.fixture(params=["sqlite", "postgresql-18"])
def process_place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    """One of each database, for tests that start processes."""
    return place_named(request.param)
