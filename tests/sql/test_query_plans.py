"""PostgreSQL looks sessions up by their indexes: with 20,000 rows, and with a plan made while there were none."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from holdfast.sessions.policy import Policy
from holdfast.sql import postgresql
from holdfast.sql.batches import Joined, joined_create, joined_touch
from holdfast.sql.statements import Statements
from holdfast.sql.tables import tables
from tests.conftest import MigratedDatabases

ROWS = 20_000
POLICIES = {"plain": Policy(), "grace": Policy(rotation_grace=timedelta(seconds=10))}

FILL = f"""
INSERT INTO sessions (id, digest, previous_digest, replaced_at, user_id, metadata,
                      created_at, expires_at, last_activity, ended_at, end_reason)
SELECT gen_random_uuid(), sha256(n::text::bytea), CASE WHEN n % 3 = 0 THEN sha256(('old ' || n)::bytea) END,
       CASE WHEN n % 3 = 0 THEN now() END, 'user ' || n % 1000, '{{}}', now(), now() + interval '1 day', now(),
       CASE WHEN n % 10 = 0 THEN now() END, CASE WHEN n % 10 = 0 THEN 'revoked' END
FROM generate_series(1, {ROWS}) AS n
"""


@pytest_asyncio.fixture
async def connection(migrated_database: MigratedDatabases) -> "AsyncIterator[asyncpg.Connection[Any]]":
    """A connection to an empty, migrated database."""
    made = await asyncpg.connect(migrated_database(None))
    yield made
    made.terminate()


async def as_a_lane(connection: "asyncpg.Connection[Any]") -> None:
    """The settings that a lane has."""
    for name, value in postgresql._LANE_SETTINGS.items():
        await connection.execute(f"SET {name} = {value}")


async def fill(connection: "asyncpg.Connection[Any]") -> None:
    """20,000 sessions, a tenth of them ended, and statistics."""
    await connection.execute(FILL)
    await connection.execute("ANALYZE sessions")


def literal(value: Any) -> str:
    """A value as EXECUTE takes it."""
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    if isinstance(value, UUID):
        return f"'{value}'::uuid"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, timedelta):
        return f"'{value.total_seconds()} s'::interval"
    return str(value) if isinstance(value, int) else f"'{value}'"


async def plan_of(connection: "asyncpg.Connection[Any]", name: str, joined: Joined, **values: Any) -> str:
    """The plan of a prepared statement."""
    arguments = ", ".join(map(literal, joined.arguments(**values)))
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {name}({arguments})")
    return "\n".join(row[0] for row in rows)


async def plan_for_anything(connection: "asyncpg.Connection[Any]", text: str) -> str:
    """The plan that PostgreSQL keeps for a statement, whatever its arguments."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE it AS {text}")
    nothing = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", text))))
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE it({nothing})")
    await connection.execute("DEALLOCATE it")
    return "\n".join(row[0] for row in rows)


def touches(count: int, by_id: bool = False) -> dict[str, Any]:
    """The arguments of a touch of so many sessions."""
    return {
        "keys": [UUID(int=n) if by_id else bytes([n]) * 32 for n in range(count)],
        "activities": [1] * count,
        "limit": count,
        "offset": timedelta(0),
    }


TOUCHES = [(by_id, policy, count) for by_id in (False, True) for policy in POLICIES for count in (1, 256 - 1)]


@pytest.mark.parametrize("made", ["before there are rows", "after"])
async def test_the_touch_batch(connection: "asyncpg.Connection[Any]", made: str, subtests: pytest.Subtests) -> None:
    """Found and written by a unique index, one row after the other in order of id, with a plan of any age."""
    all_tables = tables("public")
    await as_a_lane(connection)
    if made == "after":
        await fill(connection)
    planned = []
    for number, (by_id, policy, count) in enumerate(TOUCHES):
        rules = POLICIES[policy]
        joined = joined_touch(all_tables, Statements(all_tables, rules), rules, by_id=by_id).waiting
        await connection.execute(f"PREPARE touch_{number} AS {joined.text}")
        planned.append((joined, await plan_of(connection, f"touch_{number}", joined, **touches(count, by_id))))
    if made != "after":
        await connection.execute(FILL)
    for number, ((by_id, policy, count), (joined, before)) in enumerate(zip(TOUCHES, planned, strict=True)):
        plan = await plan_of(connection, f"touch_{number}", joined, **touches(count, by_id))
        for text in (before, plan):
            with subtests.test(f"{count} by {'id' if by_id else 'digest'}, {policy}"):
                assert by_id or "sessions_digest_key" in text, text
                assert "sessions_pkey" in text or (policy != "grace" and not by_id), text
                assert not re.search(r"Seq Scan on sessions|Hash Join|Merge Join", text), text
                # With a grace the rows are locked before; without, the outer side of the loop is the locks' order.
                if by_id or policy != "grace":
                    given = "Subquery Scan on asked" if by_id else "CTE Scan on opened"
                    assert re.search(rf"-> +Nested Loop\n +-> +{given}\n", text), text
                if policy == "grace" and not by_id:
                    assert "sessions_previous_digest_idx" in text, text


@pytest.mark.parametrize("policy", POLICIES)
async def test_asking_which_are_live(connection: "asyncpg.Connection[Any]", policy: str) -> None:
    """The question about rows that were passed over is answered by the digest's index."""
    all_tables = tables("public")
    joined = joined_touch(all_tables, Statements(all_tables, POLICIES[policy]), POLICIES[policy], by_id=False).live
    await as_a_lane(connection)
    await connection.execute(f"PREPARE live AS {joined.text}")
    await fill(connection)
    plan = await plan_of(connection, "live", joined, keys=[b"1" * 32], limit=1, offset=timedelta(0))
    assert "sessions_digest_key" in plan, plan
    assert "Seq Scan on sessions" not in plan, plan


async def test_the_create_batch(connection: "asyncpg.Connection[Any]") -> None:
    """An insert with its conflict decided by the primary key; it reads no row of the table."""
    all_tables = tables("public")
    joined = joined_create(all_tables, Statements(all_tables, Policy()), Policy())
    await as_a_lane(connection)
    await fill(connection)
    plan = await plan_for_anything(connection, joined.text)
    assert "Conflict Arbiter Indexes: sessions_pkey" in plan, plan
    assert "Scan on sessions" not in plan, plan


PLAIN = {
    "get": ("sessions_pkey", "sessions_digest_key"),
    "why": ("sessions_digest_key", "sessions_previous_digest_idx"),
    "extend": ("sessions_pkey", "sessions_digest_key"),
    "rotate": ("sessions_digest_key",),
    "end": ("sessions_pkey", "sessions_digest_key"),
    "set_metadata": ("sessions_pkey", "sessions_digest_key"),
    "standing": ("sessions_pkey",),
    "settle": ("sessions_pkey",),
    "replayed": ("sessions_previous_digest_idx",),
    "evict": ("sessions_user_id_idx",),
    "count_user": ("sessions_user_id_idx",),
    "mark_expired": ("sessions_expires_at_idx",),
    "untold": ("sessions_ended_at_idx",),
    "delete_ended": ("sessions_ended_at_idx",),
    "list of a user": ("sessions_user_id_idx",),
    "list of all": ("sessions_pkey",),
    "end user": ("sessions_user_id_idx",),
    "erase_user": ("sessions_user_id_idx",),
}


async def test_plain_statements(connection: "asyncpg.Connection[Any]", subtests: pytest.Subtests) -> None:
    """Each finds its rows by the index that is there for it, also with a plan for any argument."""
    statements = Statements(tables("public"), Policy())
    await fill(connection)
    others: dict[str, Callable[[], Any]] = {
        "list of a user": lambda: statements.list_live(of_user=True, after=True),
        "list of all": lambda: statements.list_live(of_user=False, after=True),
        "end user": lambda: statements.end_user(keep=True),
    }
    driver: Any = asyncpg_dialect
    for name, indexes in PLAIN.items():
        statement = others[name]() if name in others else getattr(statements, name)
        compiled = statement.compile(dialect=driver.dialect())
        text = re.sub(r"\(__\[POSTCOMPILE_\w+\]\)", "('expired')", str(compiled))
        plan = await plan_for_anything(connection, text)
        with subtests.test(name):
            for index in indexes:
                assert index in plan, plan
            assert "Seq Scan on sessions" not in plan, plan
