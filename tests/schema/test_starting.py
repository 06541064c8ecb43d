"""What a start finds: nothing, our tables, somebody else's, another version's, or nobody at the door."""

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast import InvalidArgument, SessionManager, StoreOptions, StoreRefused, StoreUnavailable
from holdfast.sql import revisions, schema
from tests.schema.conftest import PLACES, Place
from tests.schema.test_migrations import relations
from tests.support.admin import Databases, execute, with_database, with_login, with_place
from tests.support.ports import LOOPBACK, free_port

everywhere = pytest.mark.parametrize("empty", PLACES, indirect=True)
newest = pytest.mark.parametrize("empty", ["sqlite", "postgresql-18"], indirect=True)
postgresql = pytest.mark.parametrize("empty", ["postgresql-18"], indirect=True)

LEGACY = """
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY, user_id TEXT, metadata TEXT,
    created_at TIMESTAMP NOT NULL, expires_at TIMESTAMP NOT NULL, last_activity TIMESTAMP NOT NULL,
    request_count INTEGER DEFAULT 0)"""
LEGACY_ROW = """
INSERT INTO sessions VALUES ('session-2d1c3b4a-5f6e-4a7b-8c9d-0e1f2a3b4c5d', 'u1', '{}',
    '2026-01-01 00:00:00', '2026-01-02 00:00:00', '2026-01-01 00:00:00', 7)"""

UPGRADE = "import asyncio, sys; from holdfast.sql import schema; asyncio.run(schema.upgrade(sys.argv[1]))"


async def run(place: Place, *statements: str) -> None:
    """What an application did in the database before."""
    engine = place.engine()
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


def rows(place: Place, query: str) -> list[list[object]]:
    """What is there now."""
    if place.schema is not None:
        return execute(place.address, query)
    connection = sqlite3.connect(place.address)
    found = [list(row) for row in connection.execute(query)]
    connection.close()
    return found


Attempt = Callable[[], Awaitable[object]]


def attempts(*each: Attempt) -> tuple[Attempt, ...]:
    """Several ways to ask for the same."""
    return each


def content(place: Place) -> bytes | None:
    """A SQLite file, byte by byte; `None` where there is none."""
    path = Path(place.address)
    return path.read_bytes() if place.schema is None and path.exists() else None


def ended(script: str, path: Path) -> int:
    """How a process that runs a script on a file ended."""
    return subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60).returncode


@newest
def test_many_processes_upgrade_at_once(empty: Place) -> None:
    """Schema: of eight servers that start on nothing one makes the tables, and none of them fails."""
    starts = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, empty.address], stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    errors = [start.communicate(timeout=60)[1] for start in starts]
    assert [start.returncode for start in starts] == [0] * 8, "".join(errors)[-3000:]
    assert asyncio.run(schema.check(empty.address)) is None
    assert rows(empty, f"SELECT count(*) FROM {empty.qualified}holdfast_control") == [[1]]


@everywhere
async def test_many_managers_of_one_process_upgrade_at_once(empty: Place) -> None:
    """Schema: Alembic can do one thing at a time in a process; that is not the callers' business."""
    await asyncio.gather(*(schema.upgrade(empty.address) for _ in range(8)))
    assert await schema.check(empty.address) is None


async def test_different_databases_upgrade_at_once(tmp_path: Path, postgres_18: Databases) -> None:
    """Schema: each gets its own tables, also when the upgrades of both kinds meet in one process."""
    names = [f"holdfast_start_{number}_{os.getpid()}" for number in range(3)]
    addresses = [*(str(tmp_path / f"{number}.db") for number in range(6)), *map(postgres_18.create_database, names)]
    try:
        await asyncio.gather(*map(schema.upgrade, addresses))
        assert [await schema.check(address) for address in addresses] == [None] * len(addresses)
    finally:
        for name in names:
            postgres_18.drop_database(name)


async def test_an_upgrade_killed_in_the_middle_is_repeated(tmp_path: Path) -> None:
    """Schema: a process that dies within the upgrade leaves no half of it, and no lock."""
    path = tmp_path / "sessions.db"
    script = (
        "import os, signal\nimport alembic.op\n"
        "alembic.op.bulk_insert = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n" + UPGRADE
    )
    assert ended(script, path) == -signal.SIGKILL
    assert "not there yet" in str(await schema.check(path))
    await schema.upgrade(path)
    assert await schema.check(path) is None


@everywhere
@pytest.mark.parametrize("made", ["legacy", "other", "view", "ticket table"])
async def test_a_foreign_table_is_refused_untouched(empty: Place, made: str) -> None:
    """PRODUCT 3: a `sessions` table that is not Holdfast's is left as it is, and the answer names `db import`."""
    await run(
        empty,
        *{
            "legacy": (LEGACY, "CREATE INDEX idx_expires_at ON sessions(expires_at)", LEGACY_ROW),
            "other": ("CREATE TABLE sessions (sid integer)", "INSERT INTO sessions VALUES (7)"),
            "view": ("CREATE TABLE host (sid integer)", "CREATE VIEW sessions AS SELECT sid FROM host"),
            "ticket table": ("CREATE TABLE holdfast_tickets (sid integer)",),
        }[made],
    )
    names = await relations(empty)
    before = content(empty)
    openings = [
        lambda: SessionManager(empty.address, options=StoreOptions(upgrade=True)).open(),
        lambda: SessionManager(empty.address, options=StoreOptions(upgrade=False)).open(),
    ]
    if made == "legacy" and empty.schema is None:
        # A file in the legacy form is served as it is; only native tables are not made beside it.
        openings.clear()
    for attempt in attempts(lambda: schema.upgrade(empty.address), *openings):
        with pytest.raises(StoreRefused, match=r"not Holdfast's; it was not touched\..*holdfast db import") as caught:
            await attempt()
        assert ("another file" if empty.schema is None else "HOLDFAST_SCHEMA") in str(caught.value)
    assert "db import" in str(await schema.check(empty.address))
    assert await relations(empty) == names
    # Not even the journal mode of the file, which is one byte in its header.
    assert content(empty) == before
    if made == "legacy":
        assert rows(empty, "SELECT session_id, request_count FROM sessions") == [
            ["session-2d1c3b4a-5f6e-4a7b-8c9d-0e1f2a3b4c5d", 7]
        ]


async def test_a_foreign_file_in_wal_mode_is_untouched(tmp_path: Path) -> None:
    """PRODUCT 3: what an application that is still running has in its log stays there too."""
    path = tmp_path / "app.db"
    application = sqlite3.connect(path)
    application.execute("PRAGMA journal_mode = WAL").fetchall()
    application.execute(LEGACY)
    application.execute(LEGACY_ROW)
    application.commit()
    content = path.read_bytes(), path.with_name("app.db-wal").read_bytes()
    with pytest.raises(StoreRefused, match="db import"):
        await schema.upgrade(path)
    assert (path.read_bytes(), path.with_name("app.db-wal").read_bytes()) == content
    application.close()


async def test_names_differ_in_case_only(tmp_path: Path) -> None:
    """PRODUCT 3: to SQLite `Sessions` is `sessions`."""
    place = Place(str(tmp_path / "app.db"), None)
    await run(place, "CREATE TABLE Sessions (sid integer)")
    with pytest.raises(StoreRefused, match="'Sessions' that is not Holdfast's"):
        await schema.upgrade(place.address)


@newest
async def test_an_index_of_our_name_is_refused(empty: Place) -> None:
    """PRODUCT 3: indexes share their names with tables."""
    await run(empty, "CREATE TABLE host (a integer)", "CREATE INDEX sessions_user_id_idx ON host (a)")
    with pytest.raises(StoreRefused, match="an index 'sessions_user_id_idx' that is not Holdfast's"):
        await schema.upgrade(empty.address)


@newest
async def test_a_table_made_after_ours_went_is_foreign(empty: Place) -> None:
    """PRODUCT 3: the version table that a downgrade leaves does not make the next `sessions` table ours."""
    await schema.upgrade(empty.address)
    await schema.downgrade(empty.address)
    await run(empty, "CREATE TABLE sessions (sid integer)")
    with pytest.raises(StoreRefused, match="db import"):
        await schema.upgrade(empty.address)


@everywhere
async def test_other_tables_are_no_hindrance(empty: Place) -> None:
    """PRODUCT 3: an application's own tables live beside Holdfast's."""
    await run(empty, "CREATE TABLE users (id integer)", "CREATE TABLE alembic_version (version_num varchar(32))")
    await schema.upgrade(empty.address)
    assert {"users", "alembic_version", "sessions"} <= set(await relations(empty))


@everywhere
async def test_a_newer_revision_is_refused(empty: Place) -> None:
    """F-38: what a newer version made is not touched, by a start, an upgrade or a downgrade; the text says so."""
    await schema.upgrade(empty.address)
    await run(empty, "UPDATE holdfast_version SET version_num = '9999'")
    for attempt in attempts(
        lambda: schema.upgrade(empty.address),
        lambda: schema.downgrade(empty.address),
        lambda: SessionManager(empty.address, options=StoreOptions(upgrade=True)).open(),
        lambda: SessionManager(empty.address, options=StoreOptions(upgrade=False)).open(),
    ):
        with pytest.raises(StoreRefused, match="revision 9999, which a newer version of Holdfast made; install"):
            await attempt()
    assert "9999" in str(await schema.check(empty.address))
    assert rows(empty, "SELECT version_num FROM holdfast_version") == [["9999"]]


@everywhere
async def test_an_older_revision_is_refused(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-38: with upgrades left to the operator an old schema is refused with the command that mends it."""
    await schema.upgrade(empty.address)
    present = revisions.newest()
    monkeypatch.setattr(schema, "newest", lambda: "9999")
    with pytest.raises(
        StoreRefused, match=f"at revision {present}, this version needs 9999; run `holdfast db upgrade`"
    ):
        await SessionManager(empty.address, options=StoreOptions(upgrade=False)).open()
    assert "9999" in str(await schema.check(empty.address))


@everywhere
async def test_check_says_what_to_do(empty: Place) -> None:
    """Schema: from nothing to fit, each state has its sentence, and looking changes nothing."""
    first = await schema.check(empty.address)
    if empty.schema is None:
        assert first == f"there is no file {empty.address} yet; the first start makes it, or run `holdfast db upgrade`"
        assert content(empty) is None
    else:
        assert first == "Holdfast's tables are not there yet; run `holdfast db upgrade`"
    with pytest.raises(StoreRefused):
        await SessionManager(empty.address, options=StoreOptions(upgrade=False)).open()
    assert await relations(empty) == []
    await schema.upgrade(empty.address)
    assert await schema.check(empty.address) is None
    if empty.schema is not None:
        with pytest.raises(StoreRefused, match="no such database"):
            await SessionManager(with_database(empty.address, "no_such_database")).open()
        assert "no such database" in str(await schema.check(with_database(empty.address, "no_such_database")))


async def test_check_looks_at_a_file_it_may_not_write(tmp_path: Path) -> None:
    """Schema: `db check` is for operators who may only look, and leaves no file behind."""
    path = tmp_path / "sessions.db"
    await schema.upgrade(path)
    before = path.stat().st_mtime_ns
    assert await schema.check(path) is None
    assert path.stat().st_mtime_ns == before
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert "symbolic link" in str(await schema.check(link))
    assert "not a file" in str(await schema.check(tmp_path))


async def test_check_reads_what_a_killed_process_left_in_its_log(tmp_path: Path) -> None:
    """F-44, schema: tables that are still in the -wal of a process that was killed are there."""
    path = tmp_path / "sessions.db"
    script = (
        "import asyncio, os, signal, sys\nfrom holdfast.sql import schema, sqlite_file\n"
        "asyncio.run(schema.upgrade(sys.argv[1]))\n"
        "from pathlib import Path\n"
        "e = sqlite_file.engine(Path(sys.argv[1])); c = e.connect()\n"
        "c.exec_driver_sql('UPDATE holdfast_control SET epoch = 7')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert ended(script, path) == -signal.SIGKILL
    assert path.with_name("sessions.db-wal").stat().st_size > 0
    assert await schema.check(path) is None
    assert rows(Place(str(path), None), "SELECT epoch FROM holdfast_control") == [[7]]


@newest
async def test_a_fit_schema_is_not_migrated_again(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema: a start on tables that are up to date asks for no lock and no privilege, and is silent."""
    await schema.upgrade(empty.address)
    monkeypatch.setattr(schema, "_migrate", None)
    await schema.upgrade(empty.address)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger as an application has set it up, put back afterwards."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    yield root
    root.setLevel(level)


@newest
async def test_alembic_leaves_logging_alone(
    empty: Place, root_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Schema: no handler, level or logger of the application changes, and a later start logs nothing at INFO."""
    application = logging.getLogger("application")
    alembic = logging.getLogger("alembic")

    def state() -> object:
        loggers = (root_logger, application, alembic)
        return [(list(each.handlers), each.level, each.disabled, each.propagate) for each in loggers]

    before = state()
    async with SessionManager(empty.address, options=StoreOptions(upgrade=True)):
        pass
    assert state() == before
    caplog.clear()
    async with SessionManager(empty.address, options=StoreOptions(upgrade=True)):
        pass
    assert [record.name for record in caplog.records if record.levelno < logging.WARNING] == []


@postgresql
async def test_an_unreachable_server_is_unavailable(empty: Place) -> None:
    """Schema: nobody at the address: `StoreUnavailable` from each way in, without the password."""
    nowhere = with_place(empty.address, LOOPBACK, free_port())
    for attempt in attempts(
        lambda: schema.upgrade(nowhere),
        lambda: schema.downgrade(nowhere),
        lambda: schema.check(nowhere),
        lambda: SessionManager(nowhere, options=StoreOptions(upgrade=True)).open(),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt()
        assert password_of(empty.address) not in f"{caught.value!r} {caught.value}"


def password_of(address: str) -> str:
    """The password in an address."""
    return address.partition("://")[2].partition("@")[0].partition(":")[2]


@postgresql
async def test_a_wrong_password_is_not_shown(empty: Place, caplog: pytest.LogCaptureFixture) -> None:
    """S-70: refused with what to check; neither the text nor what it came from, nor the log, has the password."""
    caplog.set_level(logging.DEBUG)
    secret = "wr0ng-Passw0rd"
    wrong = with_login(empty.address, "holdfast", secret)
    for attempt in attempts(
        lambda: schema.upgrade(wrong),
        lambda: SessionManager(wrong, options=StoreOptions(upgrade=True)).open(),
    ):
        with pytest.raises(StoreRefused, match="password is wrong") as caught:
            await attempt()
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in f"{error!r} {error} {error.args}"
            error = error.__cause__ or error.__context__
    assert secret not in str(await schema.check(wrong))
    assert secret not in caplog.text


@everywhere
async def test_a_bad_schema_name_is_refused(empty: Place) -> None:
    """S-56: a schema's name is a plain identifier: nothing that would need quoting reaches a statement."""
    for name in (
        "",
        "a b",
        "a.b",
        'a"b',
        "a'b",
        "1a",
        "a;DROP TABLE x",
        "a-b",
        "é",
        "a" * 64,
        "a\0",
        "a\n",
        "%s",
        "$1",
    ):
        options = StoreOptions(schema=name)
        if empty.schema is None:
            # SQLite has no schemas: the setting is not looked at.
            await schema.check(empty.address, options)
            continue
        with pytest.raises(InvalidArgument, match="plain name"):
            await schema.upgrade(empty.address, options)
        with pytest.raises(InvalidArgument, match="plain name"):
            await schema.check(empty.address, options)
        with pytest.raises(InvalidArgument, match="plain name"):
            schema.sql_script(empty.address, options)
        with pytest.raises(InvalidArgument, match="plain name"):
            SessionManager(empty.address, options=options)
    assert await relations(empty) == []


def test_an_upgrade_makes_an_owner_only_file(tmp_path: Path) -> None:
    """S-75: also when it is `db upgrade` that makes it."""
    mask = os.umask(0)
    try:
        asyncio.run(schema.upgrade(tmp_path / "data" / "sessions.db"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "data" / "sessions.db").stat().st_mode) == 0o600
