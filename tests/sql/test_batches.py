"""The joined statements against a real server: what each row of their input becomes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from holdfast.sessions.policy import Policy
from holdfast.sql.batches import joined_create, joined_touch
from holdfast.sql.statements import Statements
from holdfast.sql.tables import tables
from tests.conftest import MigratedDatabases

TABLES = tables("public")
POLICIES = {"plain": Policy(), "grace": Policy(rotation_grace=timedelta(seconds=10))}


@pytest_asyncio.fixture
async def connection(migrated_database: MigratedDatabases) -> "AsyncIterator[asyncpg.Connection[Any]]":
    """A connection to an empty, migrated database."""
    made = await asyncpg.connect(migrated_database(None))
    yield made
    made.terminate()


async def create(connection: "asyncpg.Connection[Any]", *made: tuple[UUID, bytes, str | None]) -> list[Any]:
    """Create sessions in one batch: id, digest and user of each."""
    joined = joined_create(TABLES, Statements(TABLES, Policy()), Policy())
    ids, digests, users = zip(*made, strict=True)
    rows: list[Any] = await connection.fetch(
        joined.text,
        *joined.arguments(ids=ids, digests=digests, user_ids=users, texts=["{}"] * len(ids), offset=timedelta(0)),
    )
    return rows


async def touch(
    connection: "asyncpg.Connection[Any]", policy: Policy, *, skip_locked: bool = False, **activities: int
) -> dict[str, int]:
    """Touch by the letters of digests; the count that each answered one has."""
    both = joined_touch(TABLES, Statements(TABLES, policy), policy, by_id=False)
    joined = both.skipping if skip_locked else both.waiting
    rows = await connection.fetch(
        joined.text,
        *joined.arguments(
            keys=[digest(name) for name in activities],
            activities=list(activities.values()),
            limit=len(activities),
            offset=timedelta(0),
        ),
    )
    return {row[0][:1].decode(): row[-1] for row in rows}


async def live(connection: "asyncpg.Connection[Any]", policy: Policy, *names: str) -> set[str]:
    """Which of these open a live session."""
    joined = joined_touch(TABLES, Statements(TABLES, policy), policy, by_id=False).live
    values = {"keys": [digest(name) for name in names], "limit": len(names), "offset": timedelta(0)}
    return {row[0][:1].decode() for row in await connection.fetch(joined.text, *joined.arguments(**values))}


def digest(name: str) -> bytes:
    """A digest that shows its name."""
    return name.encode() * 32


async def test_a_create_that_is_there_is_left_alone(connection: "asyncpg.Connection[Any]") -> None:
    """A repeat inserts what is missing, answers only that, and touches nothing of what an earlier attempt made."""
    first, second = uuid4(), uuid4()
    [row] = await create(connection, (first, digest("a"), "u1"))
    await connection.execute("UPDATE sessions SET request_count = 3")
    rows = await create(connection, (first, digest("a"), "u1"), (second, digest("b"), None))
    assert [each["id"] for each in rows] == [second]
    assert await connection.fetchval("SELECT request_count FROM sessions WHERE id = $1", first) == 3
    assert row["created_at"] == row["last_activity"]
    assert row["expires_at"] - row["created_at"] == Policy().lifetime


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_each_digest_counts_its_callers(connection: "asyncpg.Connection[Any]", policy: Policy) -> None:
    """Live sessions are counted by the number of their callers; ended and unknown ones are not answered."""
    await create(connection, *((uuid4(), digest(name), "u1") for name in "abc"))
    await connection.execute(
        "UPDATE sessions SET ended_at = now(), end_reason = 'revoked' WHERE digest = $1", digest("c")
    )
    assert await touch(connection, policy, a=3, b=1, c=5, x=7) == {"a": 3, "b": 1}
    assert await touch(connection, policy, a=2) == {"a": 5}
    assert await live(connection, policy, "a", "b", "c", "x") == {"a", "b"}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_each_id_counts_its_callers(connection: "asyncpg.Connection[Any]", policy: Policy) -> None:
    """By id it is the same, rotated or not: a session has one id."""
    ids = [uuid4() for _ in range(3)]
    await create(connection, *((id, digest(name), "u1") for id, name in zip(ids, "abc", strict=True)))
    await connection.execute(
        "UPDATE sessions SET previous_digest = digest, replaced_at = now(), digest = sha256(digest)"
    )
    await connection.execute("UPDATE sessions SET ended_at = now(), end_reason = 'revoked' WHERE id = $1", ids[2])
    both = joined_touch(TABLES, Statements(TABLES, policy), policy, by_id=True)
    keys = [*ids, uuid4()]
    for joined in (both.waiting, both.skipping):
        values: dict[str, Any] = {"keys": keys, "activities": [3, 1, 5, 7], "limit": 4, "offset": timedelta(0)}
        rows = await connection.fetch(joined.text, *joined.arguments(**values))
        assert {row[0] for row in rows} == set(ids[:2])
    assert {row[0]: row[-1] for row in rows} == {ids[0]: 6, ids[1]: 2}
    found = await connection.fetch(both.live.text, *both.live.arguments(keys=keys, limit=4, offset=timedelta(0)))
    assert {row[0] for row in found} == set(ids[:2])


async def test_a_predecessor_counts_within_the_grace(connection: "asyncpg.Connection[Any]") -> None:
    """Both digests of one session in one batch add up in one row; after the grace the old one opens nothing."""
    await create(connection, (uuid4(), digest("a"), "u1"), (uuid4(), digest("b"), "u1"))
    rotate = (
        "UPDATE sessions SET digest = $1, previous_digest = $2, replaced_at = now() - $3::interval WHERE digest = $2"
    )
    await connection.execute(rotate, digest("n"), digest("a"), timedelta(seconds=1))
    await connection.execute(rotate, digest("m"), digest("b"), timedelta(seconds=11))
    grace = POLICIES["grace"]
    assert await touch(connection, grace, a=2, n=3, b=1, m=1) == {"a": 5, "n": 5, "m": 1}
    assert await live(connection, grace, "a", "n", "b", "m") == {"a", "n", "m"}
    assert await touch(connection, POLICIES["plain"], a=1, n=1) == {"n": 6}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_locked_rows_can_be_passed_over(
    connection: "asyncpg.Connection[Any]", policy: Policy, migrated_database: MigratedDatabases
) -> None:
    """F-05: whoever holds a row keeps nobody else waiting; that it is live can still be read."""
    await create(connection, *((uuid4(), digest(name), "u1") for name in "ab"))
    within: Any = connection
    other = await asyncpg.connect(
        host=within._addr[0],
        port=within._addr[1],
        user=within._params.user,
        password=within._params.password,
        database=await connection.fetchval("SELECT current_database()"),
    )
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT 1 FROM sessions WHERE digest = $1 FOR UPDATE", digest("a"))
        assert await touch(connection, policy, skip_locked=True, a=1, b=1, x=1) == {"b": 1}
        assert await live(connection, policy, "a", "x") == {"a"}
    finally:
        other.terminate()
