"""What all tests share: real PostgreSQL servers, and databases with the tables in them."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.sql import schema
from tests.support.admin import Databases

pytest_plugins = ["tests.support.fixtures"]

MigratedDatabases = Callable[[int | None], str]
"""Gives the address of a fresh database with Holdfast's tables: on PostgreSQL 16, 18 or the plain one (`None`)."""


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
