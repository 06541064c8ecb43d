"""Fixtures of the fault tests: a database behind a faulty network, and a server to break."""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.conftest import MigratedDatabases
from tests.faults.bench import Truth, truth
from tests.support.admin import Databases
from tests.support.postgres import PostgresCluster
from tests.support.proxy import FaultProxy


@pytest.fixture
def database(emptied_database: MigratedDatabases) -> str:
    """The address of a migrated database that this test has alone."""
    return emptied_database(None)


@pytest_asyncio.fixture
async def facts(database: str) -> AsyncIterator[Truth]:
    """What is in that database."""
    async with truth(database) as found:
        yield found


@pytest_asyncio.fixture
async def network(database: str) -> AsyncIterator[FaultProxy]:
    """The way to that database."""
    async with FaultProxy(database, seed=1) as proxy:
        yield proxy


BrokenDatabases = Callable[..., tuple[PostgresCluster, str]]


@pytest.fixture
def breakable(
    broken_postgres: Callable[..., PostgresCluster], template_of: Callable[[Databases], str]
) -> BrokenDatabases:
    """`server, address = breakable()`: a server of this test's own with a migrated database on it."""

    def make(settings: dict[str, str] | None = None) -> tuple[PostgresCluster, str]:
        server = broken_postgres(18, settings)
        return server, server.create_database("holdfast_faults", template_of(server))

    return make
