"""`holdfast doctor`: each thing that can be wrong is provoked, found, and comes with its remedy."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from holdfast.doctor.credentials import credentials
from holdfast.doctor.examine import examine
from holdfast.doctor.finding import Finding
from holdfast.doctor.machine import file_system, journal, permissions, sqlite_library
from holdfast.doctor.postgresql import clock_of, server, table
from holdfast.settings import Settings
from holdfast.sql import schema
from tests.cli.command import run
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file, plain_row
from tests.support.pooler import TransactionPooler

STRONG = "4f1c9a7e0b3d5268f1e2a9c7b4d6083e"


def by_name(findings: Any) -> dict[str, Finding]:
    """Findings by what was looked at."""
    return {finding.name: finding for finding in findings}


async def diagnosed(address: str, **variables: str) -> dict[str, Finding]:
    """What it finds with these settings."""
    diagnosis = await examine(Settings.from_environment({"DATABASE_URL": address, **variables}))
    assert diagnosis.reachable
    return by_name(diagnosis.findings)


async def test_a_sound_postgresql_store(migrated_database: MigratedDatabases) -> None:
    """Nothing worse than a notice is found where nothing is wrong."""
    found = await diagnosed(migrated_database(None))
    # The tests' server runs without fsync.
    assert {name for name, finding in found.items() if finding.level in ("warning", "problem")} <= {
        "fsync",
        "full_page_writes",
    }
    assert {"clock", "pooler", "role", "schema", "privileges on sessions", "fillfactor"} <= found.keys()


async def test_what_is_wrong_with_a_postgresql_store_is_found(migrated_database: MigratedDatabases) -> None:
    """An old fillfactor, vacuum switched off, a right taken away, too few connections, a schema left behind."""
    address = migrated_database(None)
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("ALTER TABLE sessions SET (fillfactor = 100, autovacuum_enabled = off)")
        await connection.execute("UPDATE holdfast_version SET version_num = '0001'")
    finally:
        await connection.close()
    found = await diagnosed(address, HOLDFAST_CONNECTIONS="100")
    assert found["fillfactor"].level == "warning"
    assert found["autovacuum of sessions"].level == "problem"
    assert found["connections"].level == "problem"
    assert found["schema"].level == "problem"
    assert "db upgrade" in found["schema"].what + str(found["schema"].remedy)


async def test_a_pooler_that_nobody_told_of_is_found(migrated_database: MigratedDatabases) -> None:
    """In transaction mode, by how the server's processes take turns; configured, it is as it should be."""
    async with TransactionPooler(migrated_database(None), size=1) as pooler:
        assert (await diagnosed(pooler.address))["pooler"].level == "problem"
        assert (await diagnosed(pooler.address, HOLDFAST_POOLED="true"))["pooler"].level == "ok"


async def test_a_foreign_table_is_found(migrated_database: MigratedDatabases) -> None:
    """A `sessions` table of an application's own names the import."""
    address = migrated_database(None)
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("CREATE SCHEMA app; CREATE TABLE app.sessions (session_id text)")
    finally:
        await connection.close()
    found = await diagnosed(address, HOLDFAST_SCHEMA="app")
    assert found["schema"].level == "problem"
    assert "db import" in found["schema"].what


async def test_a_legacy_file(tmp_path: Path) -> None:
    """Served as it is; without a zone its times are a guess."""
    path = legacy_file(tmp_path / "old.db", [plain_row("session-1")])
    found = by_name((await examine(Settings.from_environment({"HOLDFAST_SQLITE_PATH": str(path)}))).findings)
    assert (found["schema"].level, found["time zone"].level, found["journal"].level) == ("notice", "warning", "notice")


async def test_both_stores_of_a_move(migrated_database: MigratedDatabases, tmp_path: Path) -> None:
    """PRODUCT 3: each is looked at, and which one serves: it has to be said as long as either could."""
    path = tmp_path / "sessions.db"
    await schema.upgrade(path)
    both = {"HOLDFAST_SQLITE_PATH": str(path)}
    found = await diagnosed(migrated_database(None), **both)
    assert (found["schema (SQLite)"].level, found["schema (PostgreSQL)"].level) == ("ok", "ok")
    assert (found["authority"].level, "SESSION_DB_TYPE" in str(found["authority"].remedy)) == ("problem", True)
    found = await diagnosed(migrated_database(None), SESSION_DB_TYPE="sqlite", **both)
    assert found["authority"].level == "notice"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE holdfast_control SET authority = 'there'")
    found = await diagnosed(migrated_database(None), **both)
    assert (found["authority"].level, found["authority"].what) == ("ok", "postgresql has it")
    away = {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/app", **both}
    diagnosis = await examine(Settings.from_environment(away))
    assert not diagnosis.reachable
    assert by_name(diagnosis.findings)["store (PostgreSQL)"].level == "problem"


def test_files_that_others_may_open(tmp_path: Path) -> None:
    """A file's mode and its directory's, and the journal mode of our own."""
    path = tmp_path / "sessions.db"
    asyncio.run(schema.upgrade(path))
    assert journal(path, legacy=False).level == "ok"
    path.chmod(0o644)
    tmp_path.chmod(0o777)
    found = by_name(permissions(path))
    assert (found["file"].level, found["directory"].level) == ("warning", "warning")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("mounts", "level"),
    [
        ("/dev/sda1 / ext4 rw 0 0\n", "ok"),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n", "problem"),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /dat nfs4 rw 0 0\n", "ok"),
        ("/dev/sda1 / ext4 rw 0 0\nx /data fuse.sshfs rw 0 0\n", "problem"),
        ("server:/x /data nfs4 rw 0 0\n/dev/sdb1 /data ext4 rw 0 0\n", "ok"),
    ],
)
def test_network_file_systems(mounts: str, level: str) -> None:
    """The mount nearest to the file decides."""
    assert file_system(Path("/data/sessions.db"), mounts).level == level


def test_versions_and_clocks() -> None:
    """The WAL-reset race, a SQLite that is too old, and clocks apart."""
    levels = [sqlite_library(version).level for version in ((3, 34, 0), (3, 40, 1), (3, 51, 3))]
    assert levels == ["problem", "notice", "ok"]
    assert [clock_of(seconds).level for seconds in (0.1, -2, 31)] == ["ok", "notice", "warning"]


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({}, "role", "ok"),
        ({"superuser": True}, "role", "notice"),
        ({"may_create": False}, "role", "notice"),
        ({"fsync": "off"}, "fsync", "problem"),
        ({"synchronous_commit": "off"}, "synchronous_commit", "notice"),
        ({"limit_of_role": 5}, "connections", "problem"),
        ({"version": 150_004}, "postgresql", "problem"),
        ({"version": 190_000}, "postgresql", "notice"),
    ],
)
def test_settings_of_a_server(changes: Mapping[str, Any], name: str, level: str) -> None:
    """Each one that matters, from the facts that the server gives."""
    facts = {
        "version": 180_004, "time_zone": "UTC", "connections": 97, "limit_of_role": -1, "superuser": False,
        "may_create": True, "fsync": "on", "full_page_writes": "on", "autovacuum": "on", "synchronous_commit": "on",
        **changes,
    }  # fmt: skip
    assert by_name(server(facts, 5, "public"))[name].level == level


def test_tables() -> None:
    """Bloat, updates that touch indexes, and a right that is missing."""
    rights = {f"may_{right}": right != "delete" for right in ("select", "insert", "update", "delete")}
    facts = {"name": "sessions", "options": "fillfactor=60", "size": 8192, "live": 10, "dead": 20_000, **rights}
    found = by_name(table({**facts, "updates": 20_000, "hot": 1_000}, "public.sessions"))
    assert {name for name, finding in found.items() if finding.level != "ok"} == {
        "privileges on sessions", "size of sessions", "updates",
    }  # fmt: skip
    assert found["privileges on sessions"].remedy == "GRANT DELETE ON public.sessions TO the role"


def test_weak_credentials_are_found_and_not_shown() -> None:
    """Words to guess, and one letter many times; a random one passes."""
    weak, dull = "password-password-password-12345", "a" * 40
    for value, level in ((weak, "warning"), (dull, "warning"), (STRONG, "ok")):
        [finding] = credentials(Settings.from_environment({"HOLDFAST_APP_TOKEN": value}))
        assert finding.level == level
        assert value not in repr(finding)


def test_as_a_program(tmp_path: Path) -> None:
    """Exit codes 0, 3 and 4, tables or JSON on standard output, and no password in either."""
    fine = run("doctor", "--sqlite", "sessions.db", "--json", folder=tmp_path)
    assert fine.returncode == 0, fine.stderr
    assert {"name", "level", "what", "remedy"} == json.loads(fine.stdout)[0].keys()
    weak = run("doctor", "--sqlite", "sessions.db", folder=tmp_path, HOLDFAST_APP_TOKEN="a" * 40)
    assert weak.returncode == 3
    assert "openssl rand" in weak.stdout
    away = run("doctor", folder=tmp_path, DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:9/nothing")
    assert away.returncode == 4, away.stdout
    assert "hunter2" not in away.stdout + away.stderr
    assert not list(tmp_path.iterdir())
