"""The migrations make the very tables that the statements are written for, forwards and backwards."""

import asyncio
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateSchema

import holdfast.sql.migrations as migrations_folder
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import revisions, schema
from holdfast.sql.tables import VERSION_TABLE, tables
from holdfast.sql.views import view_statements
from tests.schema.conftest import PLACES, Place
from tests.support import binaries
from tests.support.admin import execute

everywhere = pytest.mark.parametrize("empty", PLACES, indirect=True)
postgresql = pytest.mark.parametrize("empty", PLACES[1:], indirect=True)


def scripts() -> ScriptDirectory:
    """The migrations as Alembic finds them."""
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(migrations_folder.__path__)))))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_there_is_one_head() -> None:
    """Schema: every migration follows the one before it, and each one says what it does."""
    assert len(scripts().get_heads()) == 1
    assert all(each.doc for each in scripts().walk_revisions())


def test_the_names_of_the_files_are_the_revisions() -> None:
    """Schema: what a start takes for the newest revision, by the names alone, is so for Alembic too."""
    assert list(revisions.known()) == [each.revision for each in scripts().walk_revisions()][::-1]
    assert revisions.newest() == scripts().get_current_head()


@everywhere
async def test_the_migrations_make_the_tables(empty: Place) -> None:
    """Schema: Alembic finds no difference between what the migrations made and `tables.py`."""
    # Not in `public`: Alembic knows the default schema by two names, and would find everything twice.
    own = None if empty.schema is None else "migrated"
    await schema.upgrade(empty.address, StoreOptions(schema="migrated"))

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "version_table": VERSION_TABLE,
                "version_table_schema": own,
                "include_schemas": own is not None,
                "include_name": lambda name, kind, _: kind != "schema" or name == own,
            },
        )
        return list(compare_metadata(context, tables(own).metadata))

    engine = empty.engine()
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


CATALOGUE = {
    "columns": """
        SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
               pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND attrelid = ANY(SELECT oid FROM pg_class WHERE relnamespace = $1::regnamespace
        AND relkind = 'r') ORDER BY 1, 2""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY 1",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = $1 ORDER BY 1",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = $1::regnamespace ORDER BY 1, 2""",
}


@postgresql
async def test_nothing_is_different_on_the_server(empty: Place) -> None:
    """Schema: what the comparison above overlooks is the same too: predicates of indexes, checks, order, comments."""
    await schema.upgrade(empty.address, StoreOptions(schema="migrated"))
    made = tables("made").metadata
    engine = empty.engine()
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("made"))
        await connection.run_sync(made.create_all)
        for statement in view_statements("made").values():
            await connection.exec_driver_sql(statement)
    await engine.dispose()

    driver = await asyncpg.connect(empty.address)
    try:
        for what, query in CATALOGUE.items():
            found = {
                name: [re.sub(rf"\b{name}\.", "", repr(tuple(row))) for row in await driver.fetch(query, name)]
                for name in ("migrated", "made")
            }
            migrated = [row for row in found["migrated"] if VERSION_TABLE not in row]
            assert migrated == found["made"], what
            assert migrated
    finally:
        await driver.close()


def test_nothing_is_different_in_the_file(tmp_path: Path) -> None:
    """Schema: SQLite keeps the text of every definition; it is the same, letter by letter."""
    migrated, made = Place(str(tmp_path / "migrated.db"), None), Place(str(tmp_path / "made.db"), None)
    engine = made.file_engine()
    tables(None).metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in view_statements(None).values():
            connection.exec_driver_sql(statement)
    engine.dispose()
    asyncio.run(schema.upgrade(migrated.address))
    assert definitions(migrated) == definitions(made)
    indexes = [each for each in definitions(made) if each.startswith("CREATE INDEX")]
    assert sum("WHERE" in each for each in indexes) == 6


def definitions(place: Place) -> list[str]:
    """Every definition in a file but the version table's."""
    with sqlite3.connect(place.address) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    connection.close()
    return [re.sub(r"\s+", " ", sql) for (sql,) in rows if VERSION_TABLE not in sql]


@postgresql
async def test_the_server_is_told_what_no_table_can_say(empty: Place) -> None:
    """Schema: room in the pages, an eager autovacuum, and a fence that stands open."""
    await schema.upgrade(empty.address)
    [[options]] = execute(empty.address, "SELECT reloptions FROM pg_class WHERE oid = 'public.sessions'::regclass")
    assert "fillfactor=60" in options
    assert "autovacuum_vacuum_scale_factor=0.02" in options
    triggers = execute(
        empty.address,
        "SELECT tgrelid::regclass::text, tgname, tgenabled::text, pg_get_triggerdef(oid) FROM pg_trigger "
        "WHERE NOT tgisinternal ORDER BY 1, 2",
    )
    assert [(table, name, enabled) for table, name, enabled, _ in triggers] == [
        (table, name, "D")
        for table in ("holdfast_tickets", "sessions")
        for name in ("holdfast_fence", "holdfast_fence_truncate")
    ]
    assert all("FOR EACH STATEMENT" in definition for *_, definition in triggers)


@postgresql
async def test_the_fence_refuses_every_write(empty: Place) -> None:
    """Schema: closed, the fence answers HF001 to each kind of write, and reads go on."""
    await schema.upgrade(empty.address)
    connection = await asyncpg.connect(empty.address)
    try:
        for table in ("sessions", "holdfast_tickets"):
            await connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER holdfast_fence")
            await connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER holdfast_fence_truncate")
        for statement in (
            "INSERT INTO holdfast_tickets SELECT * FROM holdfast_tickets",
            "UPDATE sessions SET request_count = 1",
            "DELETE FROM sessions",
            "TRUNCATE sessions, holdfast_tickets",
        ):
            with pytest.raises(asyncpg.PostgresError) as caught:
                await connection.execute(statement)
            assert caught.value.sqlstate == "HF001", statement
        assert await connection.fetchval("SELECT count(*) FROM sessions") == 0
    finally:
        await connection.close()


async def relations(place: Place) -> list[str]:
    """The names of all tables, indexes and functions of a database."""
    engine = place.engine()
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT name FROM sqlite_master ORDER BY 1"
                if place.schema is None
                else "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
            )
        )
        names = [row[0] for row in rows]
    await engine.dispose()
    return names


@everywhere
async def test_down_to_nothing_and_up_again(empty: Place) -> None:
    """Schema: `base` leaves nothing but the empty version table, and the way up gives the same as before."""
    await schema.upgrade(empty.address)
    first = await relations(empty)
    await schema.upgrade(empty.address)
    await schema.downgrade(empty.address)
    assert [name for name in await relations(empty) if not name.startswith((VERSION_TABLE, "sqlite_"))] == []
    assert await schema.check(empty.address) == "Holdfast's tables are not there yet; run `holdfast db upgrade`"
    await schema.downgrade(empty.address)
    await schema.upgrade(empty.address)
    assert await relations(empty) == first
    assert await schema.check(empty.address) is None


@everywhere
async def test_an_unknown_revision_is_the_callers_mistake(empty: Place) -> None:
    """Schema: nothing is changed for a revision that is not there."""
    with pytest.raises(InvalidArgument, match="nowhere"):
        await schema.upgrade(empty.address, revision="nowhere")
    assert await relations(empty) == []


@everywhere
async def test_an_upgrade_that_fails_half_way_leaves_nothing(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema: one transaction: when its last statement fails, not even the version table is there."""

    def fail(*_: Any, **__: Any) -> None:
        raise StoreRefused("a planned fault")

    monkeypatch.setattr("alembic.op.bulk_insert", fail)
    with pytest.raises(StoreRefused, match="planned"):
        await schema.upgrade(empty.address)
    assert await relations(empty) == []


def psql(address: str, script: str) -> None:
    """Run a script as an operator does; the first error ends it."""
    parts = urlsplit(address)
    subprocess.run(
        [
            *(str(binaries.programs(18) / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"),
            *("-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), parts.path[1:]),
        ],
        input=script,
        text=True,
        check=True,
        capture_output=True,
        env=binaries.environment({"PGPASSWORD": str(parts.password)}),
    )


@everywhere
@pytest.mark.parametrize("name", ["public", "Holdfast_Own"])
async def test_the_printed_script_does_the_same(empty: Place, name: str) -> None:
    """Schema: what `db upgrade --sql` prints, run by the database's own tool, makes what the upgrade makes."""
    options = StoreOptions(schema=name)
    script = schema.sql_script(empty.address, options)
    if empty.schema is None:
        connection = sqlite3.connect(empty.address)
        connection.executescript(script)
        connection.close()
    else:
        psql(empty.address, script)
    assert await schema.check(empty.address, options) is None
    await schema.upgrade(empty.address, options)
    if empty.schema is None:
        other = Place(f"{empty.address}.other", None)
        await schema.upgrade(other.address)
        assert definitions(empty) == definitions(other)


@postgresql
async def test_the_printed_script_runs_in_one_transaction(empty: Place) -> None:
    """Schema: asyncpg takes the script as it is; one that fails leaves nothing."""
    script = schema.sql_script(empty.address)
    connection = await asyncpg.connect(empty.address)
    try:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(script.replace("COMMIT;", "SELECT 1 / 0; COMMIT;"))
        await connection.execute("ROLLBACK")
        assert await relations(empty) == []
        await connection.execute(script)
    finally:
        await connection.close()
    assert await schema.check(empty.address) is None


def test_the_script_connects_to_nothing() -> None:
    """Schema: it is printed for databases that are not there, and asks nobody."""
    script = schema.sql_script("postgresql://nobody@no.such.host/app", StoreOptions(schema="own"))
    assert 'CREATE SCHEMA "own"' in script
    assert script.count("BEGIN;") == script.count("COMMIT;") == 1
    with pytest.raises(InvalidArgument):
        schema.sql_script("postgresql://nobody@no.such.host/app", revision="nowhere")
