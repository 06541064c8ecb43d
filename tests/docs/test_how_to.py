"""The examples of the how-to guides, run as they stand."""

import re
import secrets
from pathlib import Path
from typing import Any

import httpx2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from holdfast import SessionManager, StoreOptions
from holdfast.server.testing import create_test_app
from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.docs.console import run_file
from tests.docs.pages import Block, blocks, page
from tests.docs.running import run_page
from tests.support.admin import Databases, execute, with_login
from tests.support.fixtures import DatabaseFactory

POSTGRESQL = "how-to/use-postgresql.md"
JOINS = "how-to/join-your-tables.md"
BASE = "http://test.example"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, and no settings of the machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "SESSION_DB_TYPE", "HOLDFAST_SQLITE_PATH", "HOLDFAST_SCHEMA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _statements(block: Block, **names: str) -> list[str]:
    text = block.text
    for shown, real in names.items():
        text = text.replace(shown, real)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def _sql(run: str) -> Block:
    (found,) = (block for block in blocks(page(POSTGRESQL)) if f"run={run}" in block.words)
    return found


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
async def test_the_two_roles_suffice(
    postgres: Databases, postgres_database: DatabaseFactory, folder: Path, pooled: bool
) -> None:
    """What the page grants is enough for everything a manager does, and not for the schema."""
    address = postgres_database()
    marker = secrets.token_hex(4)
    names = {"holdfast_owner": f"owner_{marker}", "holdfast_app": f"app_{marker}"}
    passwords = re.findall(r"PASSWORD '([^']+)'", _sql("admin").text)
    owner, runtime = (
        with_login(address, name, password) for name, password in zip(names.values(), passwords, strict=True)
    )
    execute(address, *_statements(_sql("admin"), **names))
    try:
        options = StoreOptions(schema="holdfast", pooled=pooled)
        await schema.upgrade(owner, options)
        execute(owner, *_statements(_sql("owner"), **names))
        async with SessionManager(runtime, options=options, on_end=lambda _: None, sweep_interval=None) as sessions:
            await _everything(sessions)
        with pytest.raises(Exception, match="lacks a privilege"):
            await schema.downgrade(runtime, options)
    finally:
        execute(address, *(f"DROP OWNED BY {name} CASCADE" for name in names.values()))
        execute(address, *(f"DROP ROLE {name}" for name in names.values()))


async def _everything(sessions: SessionManager) -> None:
    new = await sessions.create_session("u1", {"lang": "ko"})
    assert await sessions.validate_session(new.token)
    assert await sessions.create_ticket(new.token)
    assert await sessions.update_metadata(new.token, {"lang": "en"})
    assert await sessions.extend_session(new.token)
    rotated = await sessions.rotate_session(new.token)
    assert rotated is not None
    assert await sessions.why_ended(new.token) == "replaced"
    assert await sessions.delete_session(rotated.token)
    await sessions.sweep()
    await sessions.cleanup_expired_sessions()
    assert await sessions.erase_user("u1") == 1
    assert await sessions.get_active_session_count() == 0


def test_the_spellings_of_addresses() -> None:
    """Each spelling in the page's table and examples is understood."""
    from holdfast.sql.address import PostgresqlAddress, parse_address

    text = page(POSTGRESQL).read_text()
    shown = [each for each in re.findall(r"postgres(?:ql)?://[^\s`|]+", text) if "…" not in each]
    assert len(shown) >= 6
    for address in shown:
        assert isinstance(parse_address(address), PostgresqlAddress)
    for driver in re.findall(r"\+psycopg\w*|\+asyncpg", text):
        assert isinstance(parse_address(f"postgresql{driver}://user@db/app"), PostgresqlAddress)


async def test_joins_on_sqlite(folder: Path) -> None:
    """The page's join, with the sessions in a file of their own."""
    await run_page(
        page(JOINS),
        store_address="sqlite:///sessions.db",
        application_address="sqlite+aiosqlite:///file:app.db?uri=true",
        sessions_file="sessions.db",
    )


async def test_joins_on_postgresql(postgres_database: DatabaseFactory, folder: Path) -> None:
    """The page's join, with the sessions in a schema of the application's database."""
    address = postgres_database()
    await schema.upgrade(address, StoreOptions(schema="holdfast"))
    names = await run_page(
        page(JOINS),
        store_address=address,
        application_address=address.replace("postgresql://", "postgresql+asyncpg://"),
        sessions_file=None,
    )
    engine = create_async_engine(address.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as connection:
        assert await connection.run_sync(_proposed, names["metadata"]) == []
    await engine.dispose()


@pytest.mark.parametrize("migrated_database", [[18]], indirect=True, ids=["18"])
async def test_alembic_leaves_the_tables_alone(migrated_database: MigratedDatabases) -> None:
    """Beside the application's tables in `public`, autogenerate proposes nothing about ours."""
    engine = create_async_engine(migrated_database(18).replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as connection:
        assert await connection.run_sync(_proposed, MetaData()) == []
        assert "remove_table" in await connection.run_sync(_proposed, MetaData(), filtered=False)
    await engine.dispose()


def _proposed(connection: Connection, metadata: MetaData, filtered: bool = True) -> list[str]:
    options: dict[str, Any] = {"include_schemas": True}
    if filtered:
        options["include_object"] = schema.include_object
    found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return [each[0] for each in found if isinstance(each, tuple)]


async def test_hearing_of_ends(folder: Path) -> None:
    """The hook and the watch."""
    await run_page(page("how-to/hear-of-ends.md"))


def test_testing_an_application(folder: Path) -> None:
    """The tests on the page pass, in a process of their own; of the suite, its first part."""
    for block in blocks(page("how-to/test-your-application.md")):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir=."]
    assert "4 passed" in run_file(folder, *command, "test_time.py", "test_faults.py")
    assert "passed" in run_file(folder, *command, "test_own_store.py", "-k", "create")


async def test_the_route_of_the_test_server() -> None:
    """The page's request moves the clock of the test server."""
    (shown,) = re.findall(r"/testing/clock .*?-d '([^']*)'", page("how-to/test-your-application.md").read_text())
    app = create_test_app()
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        answer = await client.post("/testing/clock", content=shown, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert list(answer.json()) == ["now"]
