"""Backups of stores in odd states, and by users who may do little."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from holdfast.backups.archive import read, verify
from holdfast.backups.prune import prune
from holdfast.backups.take import take, take_table
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sql.address import PostgresqlAddress
from tests.backups.conftest import OPTIONS, Place
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file
from tests.support.admin import Databases

HALF = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("DELETE FROM sessions")
connection.execute("CREATE TABLE filler (filler BLOB)")
for _ in range(999):
    connection.execute("INSERT INTO filler VALUES (randomblob(5000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_the_log_of_a_killed_server_is_in_it(file_place: Place, tmp_path: Path) -> None:
    """Promise 1: what is only in the log yet is acknowledged all the same."""
    killed = tmp_path / "killed"
    killed.mkdir()
    async with file_place.manager() as sessions:
        await sessions.create_session("u")
        for name in ("sessions.db", "sessions.db-wal"):
            await asyncio.to_thread(shutil.copy, file_place.path.with_name(name), killed / name)
    made = await Place(str(killed / "sessions.db"), tmp_path / "backups").backup()
    assert made.manifest.rows["sessions"] == 1


async def test_half_a_transaction_of_an_old_application_is_not(tmp_path: Path) -> None:
    """F-48: it died while it wrote; what it had not committed is undone first, as it would have done itself."""
    place = Place(str(tmp_path / "legacy.db"), tmp_path / "backups")
    legacy_file(place.path, [("session-1", "u", "{}", "2026", "2027", "2026", 0)])
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", HALF, place.address], check=False)
    assert place.path.with_name("legacy.db-journal").stat().st_size > 0
    assert (await place.backup()).manifest.rows == {"sessions": 1}


async def test_where_there_is_no_store(tmp_path: Path, postgres_database: MigratedDatabases) -> None:
    """Issue 4: nothing there is refused, and nothing is made."""
    empty = tmp_path / "empty.db"
    empty.touch(0o600)
    for address, sentence in (
        (str(tmp_path / "nowhere.db"), "cannot be opened"),
        (str(empty), "nothing to back up"),
        (postgres_database(None), "nothing to back up"),
    ):
        with pytest.raises(StoreRefused, match=sentence):
            await Place(address, tmp_path / "backups").backup()
    assert not list((tmp_path / "backups").glob("*"))
    with pytest.raises(StoreUnavailable, match="nobody listens there"):
        await Place("postgresql://holdfast@127.0.0.1:1/app", tmp_path / "backups").backup()


async def test_a_store_in_pages_is_not_copied_with_what_was_erased(file_place: Place) -> None:
    """S-82: what was erased is not left in the free pages of a backup."""
    async with file_place.manager() as sessions:
        await sessions.create_session("u", {"secret": "a telephone number"})
        assert b"a telephone number" in (await file_place.backup()).path.joinpath("sessions.db").read_bytes()
        await sessions.erase_user("u")
    assert b"a telephone number" not in (await file_place.backup()).path.joinpath("sessions.db").read_bytes()


@pytest.fixture
def reader(postgres: Databases, migrated_database: MigratedDatabases) -> Iterator[tuple[str, str]]:
    """A database, and the same by a role that may read and write rows there."""
    address = migrated_database(None)
    name = address.rpartition("/")[2]
    restricted = postgres.restricted_role(name, "public")
    yield address, restricted
    postgres.drop_role(restricted, name)


async def test_by_a_role_that_may_little(reader: tuple[str, str], tmp_path: Path) -> None:
    """The role that serves can take a backup; to put one back it needs TEMPORARY, and the error says a privilege."""
    owner, place = (Place(address, tmp_path / "backups") for address in reader)
    async with place.manager() as sessions:
        new = await sessions.create_session("u", {"n": 1})
        made = await place.backup()
        with pytest.raises(StoreRefused, match="lacks a privilege"):
            await place.restore(made.path)
        name = owner.address.rpartition("/")[2]
        await asyncio.to_thread(owner.run, f'GRANT TEMPORARY ON DATABASE "{name}" TO PUBLIC')
        await sessions.update_metadata(new.token, {"n": 2})
        await place.restore(made.path)
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 1}


async def test_a_restore_does_not_wait_behind_a_stranger(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """F-12: a long transaction that holds the table makes it give up in seconds, with nothing changed."""
    place = Place(migrated_database(None), tmp_path / "backups")
    made = await place.backup()
    stranger = await asyncpg.connect(place.address)
    try:
        await stranger.execute("BEGIN; LOCK TABLE sessions IN ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="keeps a row or a user locked"):
            await place.restore(made.path)
    finally:
        await stranger.close()
    await place.restore(made.path)


async def test_how_far_it_is_is_told(file_place: Place) -> None:
    """Issue 4: how many sessions there are, and then how many of them are copied, more and more."""
    async with file_place.manager() as sessions:
        await sessions.create_session("u")
    columns = "digest, metadata, metadata_version, created_at, expires_at, last_activity, request_count"
    file_place.run(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000) "
        f"INSERT INTO sessions (id, {columns}) SELECT printf('%032x', n), randomblob(32), "
        "json_object('filler', hex(randomblob(200))), 0, created_at, expires_at, last_activity, 0 "
        "FROM n, (SELECT * FROM sessions LIMIT 1)"
    )
    told: list[tuple[str, int]] = []
    await take(file_place.parsed, OPTIONS, file_place.folder, lambda step, rows: told.append((step, rows)))
    assert ("counted", 30_001) in told
    copied = [rows for step, rows in told if step == "copying"]
    assert copied == sorted(copied)
    assert 0 < copied[-1] <= 30_001


async def test_an_applications_own_table(migrated_database: MigratedDatabases, tmp_path: Path) -> None:
    """Issue 4: what an import takes in place is backed up as everything is: verified, pruned, and no restore's."""
    place = Place(migrated_database(None), tmp_path / "backups")
    assert isinstance(place.parsed, PostgresqlAddress)
    await asyncio.to_thread(
        place.run,
        "CREATE TABLE old (session_id varchar(100), created_at timestamptz, twice text GENERATED ALWAYS AS "
        "(session_id || session_id) STORED)",
        "INSERT INTO old VALUES ('a\tb', '2026-11-29 12:00+01'), (NULL, NULL)",
        "CREATE TABLE older AS SELECT * FROM old",
    )
    made = [await take_table(place.parsed, OPTIONS, name, place.folder) for name in ("old", "old", "older")]
    for each in made:
        verify(read(each.path))
    assert (made[0].path / "old.copy").read_text() == "a\\tb\t2026-11-29 11:00:00+00\n\\N\t\\N\n"
    assert (made[0].manifest.kind, made[0].manifest.rows) == ("table", {"old": 2})
    with pytest.raises(StoreRefused, match="--undo"):
        await place.restore(made[0].path)
    with pytest.raises(StoreRefused, match="there is no table"):
        await take_table(place.parsed, OPTIONS, "no_such", place.folder)
    # Each table keeps its newest.
    done = prune(place.folder, timedelta(0))
    assert (done.removed, done.strange) == ([made[0].path], [])
