"""The databases that tests pass on: as new for the next one, or gone."""

from collections.abc import Callable

import asyncpg
import pytest

from tests.support.admin import Databases, execute
from tests.support.emptied import EmptiedDatabases

ROWS = "SELECT (SELECT count(*) FROM sessions), (SELECT to_jsonb(c)::text FROM holdfast_control c)"


@pytest.fixture
def emptied(postgres: Databases, template_of: Callable[[Databases], str]) -> EmptiedDatabases:
    """Databases of this test's own."""
    return EmptiedDatabases(postgres, template_of)


def test_rows_are_put_back(postgres: Databases, emptied: EmptiedDatabases) -> None:
    """What a test wrote and changed is gone when the next one gets the database."""
    name = emptied.take()
    address = postgres.address(name)
    before = execute(address, ROWS)
    execute(
        address,
        "INSERT INTO sessions (id, digest, metadata, created_at, expires_at, last_activity) "
        "VALUES (gen_random_uuid(), '1', '{}', now(), now(), now())",
        "UPDATE holdfast_control SET epoch = epoch + 1",
    )
    assert execute(address, ROWS) != before
    emptied.give_back(name)
    assert emptied.take() == name
    assert execute(address, ROWS) == before
    emptied.drop()


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE left_over (n int)",
        "DROP TABLE holdfast_tickets CASCADE",
        "ALTER TABLE sessions ENABLE ALWAYS TRIGGER holdfast_fence",
        "CREATE SCHEMA left_over",
    ],
)
def test_one_of_another_form_is_never_passed_on(postgres: Databases, emptied: EmptiedDatabases, change: str) -> None:
    """A table more or less, a trigger switched on, a schema: the database is dropped."""
    name = emptied.take()
    execute(postgres.address(name), change)
    emptied.give_back(name)
    assert postgres.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == []
    assert emptied.take() != name
    emptied.drop()


async def test_a_connection_left_behind_is_ended(postgres: Databases, emptied: EmptiedDatabases) -> None:
    """Whoever comes next has the database alone."""
    name = emptied.take()
    left = await postgres.connect(name)
    emptied.give_back(name)
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await left.execute("SELECT 1")
    left.terminate()
    emptied.drop()
