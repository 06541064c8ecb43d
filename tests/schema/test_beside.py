"""Holdfast's tables in an application's own database: beside its tables, joined with them, and with few rights."""

import asyncio
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, Text, Uuid, select, text
from sqlalchemy.schema import CreateSchema

from holdfast import SessionManager, StoreOptions, StoreRefused
from holdfast.sql import schema
from holdfast.sql.tables import sessions_table
from tests.schema.conftest import PLACES, Place
from tests.support.admin import Databases, execute

everywhere = pytest.mark.parametrize("empty", PLACES, indirect=True)
postgresql = pytest.mark.parametrize("empty", PLACES[1:], indirect=True)


def opened(address: str, **options: Any) -> SessionManager:
    """A manager that sweeps only when told to."""
    return SessionManager(address, sweep_interval=None, options=StoreOptions(**options))


def host_tables(schema_name: str | None = None) -> MetaData:
    """What an application has of its own."""
    metadata = MetaData(schema=schema_name)
    Table("messages", metadata, Column("id", Integer, primary_key=True), Column("session_id", Uuid()))
    Table("users", metadata, Column("id", String(255), primary_key=True), Column("name", Text))
    return metadata


@everywhere
async def test_joins_with_the_applications_tables(empty: Place) -> None:
    """PRODUCT 2: `sessions_table` in the application's own metadata joins by `id` and by `user_id`."""
    metadata = host_tables()
    sessions = sessions_table(metadata)
    messages, users = metadata.tables["messages"], metadata.tables["users"]
    async with opened(empty.address, upgrade=True) as manager:
        new = await manager.create_session("u1", {"lang": "ko"})
        await manager.create_session("u2")
        engine = empty.engine()
        async with engine.begin() as connection:
            await connection.run_sync(lambda sync: metadata.create_all(sync, tables=[messages, users]))
            await connection.execute(messages.insert().values(id=7, session_id=UUID(new.id)))
            await connection.execute(users.insert().values(id="u1", name="Una"))
        async with engine.connect() as connection:
            row = (
                await connection.execute(
                    select(messages.c.id, users.c.name, sessions.c.expires_at, sessions.c.metadata)
                    .join_from(messages, sessions, messages.c.session_id == sessions.c.id)
                    .join(users, users.c.id == sessions.c.user_id)
                    .where(sessions.c.ended_at.is_(None), sessions.c.expires_at > new.expires_at - timedelta(hours=1))
                )
            ).one()
        await engine.dispose()
    assert tuple(row) == (7, "Una", new.expires_at, {"lang": "ko"})
    assert row.expires_at.utcoffset() == timedelta(0)


def test_the_table_may_be_asked_for_twice() -> None:
    """PRODUCT 2: two modules of an application share one table; another schema's is another one."""
    metadata = MetaData()
    assert sessions_table(metadata) is sessions_table(metadata)
    assert sessions_table(metadata, "own") is not sessions_table(metadata)
    assert sessions_table(metadata, "own") is sessions_table(metadata, "own")
    assert set(sessions_table(metadata).columns.keys()) >= {"id", "user_id", "created_at", "expires_at", "ended_at"}


def test_the_applications_own_table_is_not_taken_for_ours() -> None:
    """PRODUCT 2: an application with a `sessions` table of its own there hears that the name is taken."""
    metadata = MetaData()
    Table("sessions", metadata, Column("sid", Integer))
    with pytest.raises(ValueError, match="another table 'sessions'"):
        sessions_table(metadata)


@everywhere
@pytest.mark.parametrize("joined", [False, True], ids=["unknown", "joined"])
async def test_autogenerate_passes_ours_over(empty: Place, joined: bool) -> None:
    """PRODUCT 3: with `include_object` the application's autogenerate sees its own changes, and none of ours."""
    await schema.upgrade(empty.address)
    metadata = host_tables()
    if joined:
        sessions_table(metadata)
    engine = empty.engine()

    def changes(connection: Connection, /, **options: Any) -> list[Any]:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async with engine.begin() as connection:
        without = await connection.run_sync(changes)
        found = await connection.run_sync(lambda sync: changes(sync, include_object=schema.include_object))
        assert sorted((kind, table.name) for kind, table in found) == [
            ("add_table", "messages"),
            ("add_table", "users"),
        ]
        assert any("holdfast" in str(change) for change in without), "the comparison sees our tables at all"
        await connection.run_sync(
            lambda sync: metadata.create_all(sync, tables=[metadata.tables["messages"], metadata.tables["users"]])
        )
        assert await connection.run_sync(lambda sync: changes(sync, include_object=schema.include_object)) == []
    await engine.dispose()


@postgresql
async def test_autogenerate_keeps_the_applications_own_sessions(empty: Place) -> None:
    """PRODUCT 3: a `sessions` table of the application's own in another schema is not hidden from it."""
    await schema.upgrade(empty.address, StoreOptions(schema="holdfast"))
    metadata = MetaData(schema="app")
    Table("sessions", metadata, Column("sid", Integer, primary_key=True), Column("added", Text))
    engine = empty.engine()

    def changes(connection: Connection) -> list[Any]:
        opts = {"include_object": schema.include_object, "include_schemas": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=opts), metadata))

    async with engine.begin() as connection:
        await connection.execute(CreateSchema("app"))
        await connection.execute(text("CREATE TABLE app.sessions (sid integer PRIMARY KEY, dropped text)"))
        found = await connection.run_sync(changes)
    await engine.dispose()
    assert sorted((change[0], change[1], change[2]) for change in found) == [
        ("add_column", "app", "sessions"),
        ("remove_column", "app", "sessions"),
    ]


@postgresql
@pytest.mark.parametrize("name", ["own", "Mixed_Case", "_under9", "select", "a" * 63])
async def test_another_schema(empty: Place, name: str) -> None:
    """PRODUCT 3: HOLDFAST_SCHEMA: one that does not exist is made; case and key words are kept as they are."""
    async with opened(empty.address, schema=name, upgrade=True) as manager:
        new = await manager.create_session("u1", {"a": 1})
        session = await manager.validate_session(new.token)
        assert session is not None
        ticket = await manager.create_ticket(new.token)
        assert ticket is not None
        assert await manager.redeem_ticket(ticket[0]) is not None
        assert await manager.delete_session(new.token)
    assert await schema.check(empty.address, StoreOptions(schema=name)) is None
    assert execute(empty.address, f'SELECT request_count FROM "{name}".sessions') == [[1]]
    assert execute(empty.address, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [[0]]
    await schema.downgrade(empty.address, StoreOptions(schema=name))
    assert "not there yet" in str(await schema.check(empty.address, StoreOptions(schema=name)))


@postgresql
async def test_two_schemas_side_by_side(empty: Place) -> None:
    """PRODUCT 3: two Holdfasts in one database know nothing of each other."""
    async with (
        opened(empty.address, schema="One", upgrade=True) as one,
        opened(empty.address, schema="one", upgrade=True) as two,
        opened(empty.address, upgrade=True) as three,
    ):
        new = await one.create_session("u1")
        assert await two.validate_session(new.token) is None
        await two.create_session("u1")
        await two.create_session("u1")
        assert await one.erase_user("u1") == 1
        counts = [await each.get_active_session_count() for each in (one, two, three)]
        assert counts == [0, 2, 0]
        assert await two.revoke_user_sessions("u1") == 2
    await schema.downgrade(empty.address, StoreOptions(schema="One"))
    assert await schema.check(empty.address, StoreOptions(schema="one")) is None


@pytest.fixture
def restricted(postgres_18: Databases) -> Iterator[str]:
    """An upgraded database as a login sees it that may read and change rows, and nothing else."""
    name = f"holdfast_restricted_{secrets.token_hex(6)}"
    address = postgres_18.create_database(name)
    asyncio.run(schema.upgrade(address))
    login = postgres_18.restricted_role(name, "public")
    yield login
    postgres_18.drop_role(login, name)
    postgres_18.drop_database(name)


@pytest.mark.parametrize("upgrade", [None, True, False])
async def test_rows_are_all_that_is_needed(restricted: str, upgrade: bool | None) -> None:
    """S-74: a role that may only read and change rows starts, even when told to upgrade, and runs every operation."""
    async with opened(restricted, upgrade=upgrade) as manager:
        new = await manager.create_session("u1", {"a": 1})
        assert await manager.validate_session(new.token) is not None
        assert await manager.get_session(new.token) is not None
        assert await manager.get_by_id(new.id) is not None
        assert await manager.extend_session(new.token, 48) is not None
        assert await manager.update_metadata(new.token, {"b": 2}) is not None
        rotated = await manager.rotate_session(new.token)
        assert rotated is not None
        ticket = await manager.create_ticket(rotated.token, "https://example.org")
        assert ticket is not None
        assert await manager.redeem_ticket(ticket[0], "https://example.org") is not None
        assert len(await manager.list_sessions("u1")) == 1
        assert await manager.get_active_session_count() == 1
        assert await manager.revoke_user_sessions("u1") == 1
        assert await manager.why_ended(rotated.token) == "revoked"
        await manager.create_session("u2")
        assert await manager.erase_user("u2") == 1
        await manager.store.expect_hooks()
        await manager.store.untold(10, timedelta(0))
        await manager.store.told([UUID(new.id)])
        await manager.store.end_of(UUID(new.id))
        await manager.cleanup_expired_sessions()
        await manager.sweep()
        await manager.ping()


async def test_the_runtime_role_cannot_alter_the_schema(restricted: str) -> None:
    """S-74: nor open the fence, truncate, or take the tables away: each is refused by the server."""
    connection = await asyncpg.connect(restricted)
    try:
        for statement in (
            "CREATE TABLE more (a integer)",
            "CREATE FUNCTION more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "ALTER TABLE sessions ADD COLUMN more integer",
            "ALTER TABLE sessions DISABLE TRIGGER ALL",
            "CREATE OR REPLACE FUNCTION holdfast_fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "TRUNCATE sessions CASCADE",
            "DROP TABLE holdfast_control",
            "DROP INDEX sessions_digest_key",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
    with pytest.raises(StoreRefused, match="lacks a privilege"):
        await schema.downgrade(restricted)
    assert await schema.check(restricted) is None


async def test_without_rights_to_make_tables_the_start_says_so(postgres_18: Databases) -> None:
    """S-74: an upgrade by a role that may not make tables is refused with what to do, and leaves nothing."""
    name = f"holdfast_restricted_{secrets.token_hex(6)}"
    postgres_18.create_database(name)
    login = postgres_18.restricted_role(name, "public")
    try:
        for options in (StoreOptions(), StoreOptions(schema="another")):
            with pytest.raises(StoreRefused, match="lacks a privilege; grant it"):
                await schema.upgrade(login, options)
        assert "not there yet" in str(await schema.check(login))
    finally:
        postgres_18.drop_role(login, name)
        postgres_18.drop_database(name)
