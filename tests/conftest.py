"""What all tests share: real PostgreSQL servers, and databases with the tables in them."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest

from holdfast.sql import schema
from tests.support.admin import Databases
from tests.support.emptied import EmptiedDatabases

pytest_plugins = ["tests.support.fixtures", "tests.support.soaked", "tests.support.surroundings"]

# An example is slow where the machine stood still meanwhile, and not again: to Hypothesis that is a fault of its own.
hypothesis.settings.register_profile(
    "patient",
    # What Hypothesis has chosen for this machine: another profile where it knows that it is CI's.
    parent=hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

MigratedDatabases = Callable[[int | None], str]
"""Gives the address of a fresh database with Holdfast's tables: on PostgreSQL 16, 18 or the plain one (`None`)."""


@pytest.fixture(autouse=True)
def audible_log() -> None:
    """Holdfast's log at its usual level: a command that an earlier test ran in this process has made it quiet."""
    logging.getLogger("holdfast").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def template_of() -> Callable[[Databases], str]:
    """The name of a database with our tables on a server: migrated once, cloned by every test."""
    made: dict[Databases, str] = {}

    def template(server: Databases) -> str:
        if server not in made:
            name = f"holdfast_template_{secrets.token_hex(8)}"
            address = server.create_database(name)
            # In a thread: a test that asks for this may have an event loop running.
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(asyncio.run, schema.upgrade(address)).result()
            made[server] = name
        return made[server]

    return template


@pytest.fixture
def migrated_database(
    request: pytest.FixtureRequest, template_of: Callable[[Databases], str]
) -> Iterator[MigratedDatabases]:
    """`migrated_database(18)` is the address of a database of this test's own, dropped after it."""
    made: list[tuple[Databases, str]] = []

    def create(version: int | None = None) -> str:
        server = request.getfixturevalue("postgres" if version is None else f"postgres_{version}")
        assert isinstance(server, Databases)
        name = f"holdfast_test_{secrets.token_hex(8)}"
        address = server.create_database(name, template_of(server))
        made.append((server, name))
        return address

    # Asked for now: while a coroutine runs it would be too late to start a server.
    for version in getattr(request, "param", ()):
        request.getfixturevalue(f"postgres_{version}")
    yield create
    for server, name in made:
        server.drop_database(name)


@pytest.fixture(scope="session")
def emptied_of(template_of: Callable[[Databases], str]) -> Iterator[Callable[[Databases], EmptiedDatabases]]:
    """The databases of a server that are emptied after a test and then given to the next one."""
    made: dict[Databases, EmptiedDatabases] = {}

    def emptied(server: Databases) -> EmptiedDatabases:
        if server not in made:
            made[server] = EmptiedDatabases(server, template_of)
        return made[server]

    yield emptied
    for each in made.values():
        each.drop()


@pytest.fixture
def emptied_database(
    request: pytest.FixtureRequest, emptied_of: Callable[[Databases], EmptiedDatabases]
) -> Iterator[MigratedDatabases]:
    """As `migrated_database`, at a tenth of the cost: for the suites, which come to a store only by its methods.

    The database holds no row of others, but it is not new: PostgreSQL has its own statistics of it.
    """
    taken: list[tuple[EmptiedDatabases, str]] = []

    def take(version: int | None = None) -> str:
        server = request.getfixturevalue("postgres" if version is None else f"postgres_{version}")
        assert isinstance(server, Databases)
        databases = emptied_of(server)
        name = databases.take()
        taken.append((databases, name))
        return server.address(name)

    for version in getattr(request, "param", ()):
        request.getfixturevalue(f"postgres_{version}")
    yield take
    for databases, name in taken:
        databases.give_back(name)
