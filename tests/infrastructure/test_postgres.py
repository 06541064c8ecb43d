"""The test servers do what the fault tests rely on, on every version we test against."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support import binaries, processes
from tests.support.admin import Databases
from tests.support.fixtures import DatabaseFactory
from tests.support.polling import eventually, until
from tests.support.postgres import PostgresCluster

MakeServer = Callable[..., PostgresCluster]


@pytest.fixture(scope="module", params=binaries.VERSIONS)
def shared(request: pytest.FixtureRequest) -> Iterator[PostgresCluster]:
    """One server of each version for this module; its tests break it and put it right again."""
    made = PostgresCluster.create(request.param)
    yield made
    made.remove()


@pytest.fixture
def server(shared: PostgresCluster) -> PostgresCluster:
    """That server, running, with a table `marks` of one row, 1."""
    if not shared.running:
        shared.start()
    shared.execute("DROP TABLE IF EXISTS marks", "CREATE TABLE marks AS SELECT 1 AS n")
    return shared


@contextlib.contextmanager
def standby_of(primary: PostgresCluster, folder: Path) -> Iterator[PostgresCluster]:
    standby = primary.standby(folder)
    try:
        yield standby
    finally:
        standby.remove()


def marks(server: PostgresCluster) -> list[int]:
    return [n for [n] in server.execute("SELECT n FROM marks ORDER BY n")]


def test_serves_the_version_asked_for(server: PostgresCluster) -> None:
    """The right binary answers, in the encoding and zone the suites assume."""
    [[number, encoding, zone]] = server.execute(
        "SELECT current_setting('server_version_num')::int / 10000,"
        " current_setting('server_encoding'), current_setting('TimeZone')"
    )
    assert (number, encoding) == (server.version, "UTF8")
    assert zone in {"UTC", "Etc/UTC", "GMT"}


@pytest.mark.parametrize("end", ["kill", "fast", "immediate"])
def test_keeps_committed_rows_over_a_restart(server: PostgresCluster, end: str) -> None:
    """Whatever ended the server, it comes back at its address with what it acknowledged."""
    address = server.address()
    if end == "kill":
        server.kill()
    else:
        server.stop("fast" if end == "fast" else "immediate")
    assert not server.running
    assert processes.orphans(server.data) == []
    server.start()
    assert server.address() == address
    assert marks(server) == [1]


async def test_frozen_server_hangs_and_resumes(server: PostgresCluster) -> None:
    """A frozen server neither answers nor disconnects; thawed, it answers the same query."""
    connection = await server.connect()
    server.freeze()
    query = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait({query}, timeout=0.2)
    assert not done
    server.thaw()
    assert await asyncio.wait_for(query, 10) == 1
    await connection.close()


async def test_frozen_backend_keeps_its_lock(server: PostgresCluster) -> None:
    """One frozen backend blocks those who need its row, and nobody else."""
    holder, other = await server.connect(), await server.connect()
    pid = await holder.fetchval("SELECT pg_backend_pid()")
    await holder.execute("BEGIN; UPDATE marks SET n = 2")
    server.freeze_backend(pid)
    assert await other.fetchval("SELECT n FROM marks") == 1
    await other.execute("SET lock_timeout = '50ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await other.execute("UPDATE marks SET n = 3")
    server.thaw_backend(pid)
    await holder.execute("COMMIT")
    assert await other.fetchval("SELECT n FROM marks") == 2
    await holder.close()
    await other.close()


async def test_killed_backend_ends_all_sessions(server: PostgresCluster) -> None:
    """A crash of one backend costs every session its connection; the server recovers by itself."""
    victim, other = await server.connect(), await server.connect()
    pid = await victim.fetchval("SELECT pg_backend_pid()")
    await asyncio.to_thread(server.kill_backend, pid)
    with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
        await other.fetchval("SELECT 1")
    victim.terminate()
    other.terminate()
    server.wait_until_ready()
    assert marks(server) == [1]
    assert server.running


def test_signals_reach_own_backends_only(server: PostgresCluster) -> None:
    """A wrong number cannot freeze a process that is not the server's."""
    with pytest.raises(ValueError, match="no backend"):
        server.freeze_backend(os.getpid())


def test_standby_takes_over(server: PostgresCluster, tmp_path: Path) -> None:
    """Fail-over and the way back: the dead primary returns behind the new one."""
    with standby_of(server, tmp_path / "standby") as standby:
        server.execute("INSERT INTO marks VALUES (2)")
        standby.wait_for(server)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            standby.execute("INSERT INTO marks VALUES (9)")
        standby.detach()
        server.execute("INSERT INTO marks VALUES (3)")  # acknowledged, and lost below
        server.kill()
        standby.promote()
        standby.execute("INSERT INTO marks VALUES (4)")
        server.restart_as_standby_of(standby)
        server.wait_for(standby)
        assert marks(server) == marks(standby) == [1, 2, 4]
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            server.execute("INSERT INTO marks VALUES (9)")
        server.promote()


def test_read_only_and_back(server: PostgresCluster) -> None:
    """The demoted primary of a switch-over: up, and refusing writes."""
    server.force_read_only()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        server.execute("INSERT INTO marks VALUES (2)")
    server.force_read_only(False)
    server.execute("INSERT INTO marks VALUES (2)")
    assert marks(server) == [1, 2]


async def test_restricted_role(server: PostgresCluster) -> None:
    """The application's login changes rows, of tables made later too, and cannot change tables."""
    server.execute("CREATE SCHEMA app", "CREATE TABLE app.before (id serial PRIMARY KEY)")
    address = server.restricted_role("postgres", "app")
    server.execute("CREATE TABLE app.after (id serial PRIMARY KEY)")
    connection = await asyncpg.connect(address)
    for table in ("app.before", "app.after"):
        assert await connection.fetchval(f"INSERT INTO {table} DEFAULT VALUES RETURNING id") == 1
        await connection.execute(f"UPDATE {table} SET id = 2")
        await connection.execute(f"DELETE FROM {table}")
    for statement in (
        "CREATE TABLE app.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "TRUNCATE app.before",
        "DROP TABLE app.before",
        "SELECT * FROM public.marks",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()
    server.drop_role(address, "postgres")
    server.execute("DROP SCHEMA app CASCADE")


def test_identities(broken_postgres: MakeServer) -> None:
    """A server asked to be its own is told apart by its system identifier; others are not."""
    servers = [broken_postgres(), broken_postgres(), broken_postgres(own_identity=True)]
    query = "SELECT system_identifier FROM pg_control_system()"
    first, second, third = (each.execute(query) for each in servers)
    assert first == second != third


async def test_database_factory(postgres: Databases, postgres_database: DatabaseFactory) -> None:
    """Each address is a database of its own; a template is copied."""
    first = postgres_database()
    connection = await asyncpg.connect(first)
    await connection.execute("CREATE TABLE marks AS SELECT 7 AS n")
    name = await connection.fetchval("SELECT current_database()")
    await connection.close()
    connection = await asyncpg.connect(postgres_database(template=name))
    assert await connection.fetchval("SELECT n FROM marks") == 7
    await connection.close()
    connection = await asyncpg.connect(postgres_database())
    assert await connection.fetchval("SELECT to_regclass('marks')") is None
    await connection.close()


async def test_polling_names_what_did_not_happen() -> None:
    """A deadline that passes says which event was awaited."""
    with pytest.raises(TimeoutError, match="the moon"):
        until(lambda: False, what="the moon", deadline=0.02)
    with pytest.raises(TimeoutError, match="the moon"):
        await eventually(lambda: False, what="the moon", deadline=0.02)


_DYING = """\
import os, signal
from tests.support.postgres import PostgresCluster
server = PostgresCluster.create(18)
server.start()
standby = server.standby()
standby.freeze()
print(server.data, standby.data, sep="\\n", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_survives_the_test_process() -> None:
    """A test process killed outright takes its servers with it, frozen ones too."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _DYING], check=False, capture_output=True, text=True, cwd=root, timeout=60
    )
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert len(folders) == 2, done.stderr
    until(lambda: not any(data.exists() for data in folders), what="the servers' folders are deleted")
    for data in folders:
        assert processes.orphans(data) == []


def test_programs_can_be_copied(tmp_path: Path) -> None:
    """From an environment the servers' user cannot enter, a working copy is made."""
    copied = binaries.copy_programs(binaries.programs(18), tmp_path)
    for program in ("postgres", "psql"):
        done = subprocess.run([copied / program, "--version"], check=True, capture_output=True, text=True)
        assert " 18." in done.stdout
