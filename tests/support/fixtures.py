"""pytest fixtures: servers for the whole session, a database for one test.

Every process of a parallel run (pytest-xdist) has servers of its own, on ports of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.admin import Databases
from tests.support.external import ExternalPostgres
from tests.support.postgres import PostgresCluster

#: `postgres_database(template=None)` gives the address of a fresh database.
DatabaseFactory = Callable[..., str]


def _served(version: int) -> Iterator[PostgresCluster]:
    server = PostgresCluster.create(version)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_16() -> Iterator[PostgresCluster]:
    """A PostgreSQL 16 shared by the session: use it, do not break it."""
    yield from _served(16)


@pytest.fixture(scope="session")
def postgres_18() -> Iterator[PostgresCluster]:
    """A PostgreSQL 18 shared by the session: use it, do not break it."""
    yield from _served(18)


@pytest.fixture(scope="session", params=[16, 18])
def postgres_each(request: pytest.FixtureRequest) -> PostgresCluster:
    """Both in turn: the test runs once on each version."""
    server = request.getfixturevalue(f"postgres_{request.param}")
    assert isinstance(server, PostgresCluster)
    return server


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Databases:
    """The server of the plain suites: the one named by HOLDFAST_TEST_DATABASE_URL, else ours."""
    server = ExternalPostgres.from_environment() or request.getfixturevalue("postgres_18")
    assert isinstance(server, Databases)
    return server


def database_factory(server: Databases) -> Iterator[DatabaseFactory]:
    """Give a function that creates databases on `server`; they are dropped when it is resumed.

    For fixtures over a particular server: `yield from database_factory(server)`.
    """
    names: list[str] = []

    def create(template: str | None = None) -> str:
        name = f"holdfast_test_{secrets.token_hex(8)}"
        address = server.create_database(name, template)
        names.append(name)
        return address

    yield create
    for name in names:
        server.drop_database(name)


@pytest.fixture
def postgres_database(postgres: Databases) -> Iterator[DatabaseFactory]:
    """`postgres_database()` creates a database for this test and returns its address."""
    yield from database_factory(postgres)


@pytest.fixture
def broken_postgres(tmp_path: Path) -> Iterator[Callable[..., PostgresCluster]]:
    """`broken_postgres(version=18, settings=None, **options)`: a started server of this test's own.

    Kill it, freeze it, fill its disk; standbys made from it are the caller's to remove.
    """
    servers: list[PostgresCluster] = []

    def start(version: int = 18, settings: dict[str, str] | None = None, **options: bool) -> PostgresCluster:
        folder = tmp_path / f"postgres-{len(servers)}"
        server = PostgresCluster.create(version, folder, settings, **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.remove()
