"""What comes back from a backup, and what never does."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.sessions.errors import AuthorityMoved, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from tests.backups.conftest import Place, edited
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file
from tests.support.fixtures import DatabaseFactory
from tests.support.pooler import TransactionPooler


async def test_what_ended_since_stays_ended(place: Place) -> None:
    """Promise 2: ended, rotated and erased sessions stay so through a restore; later ones stay live."""
    async with place.manager() as sessions:
        ended, rotated, erased = [await sessions.create_session(user) for user in ("a", "b", "c")]
        made = await place.backup()
        await sessions.delete_session(ended.token)
        successor = await sessions.rotate_session(rotated.token)
        await sessions.erase_user("c")
        later = await sessions.create_session("d")

        done = await place.restore(made.path)

        assert await sessions.get_session(ended.token) is None
        assert await sessions.why_ended(ended.token) == "revoked"
        assert await sessions.get_session(rotated.token) is None
        assert successor is not None
        assert await sessions.get_session(successor.token)
        assert await sessions.get_session(erased.token) is None
        assert await sessions.why_ended(erased.token) == "unknown"
        assert await sessions.get_session(later.token)
    assert (done.merged.left_out, done.merged.newer) == (1, 1)


async def test_metadata_comes_back_and_counts_do_not_go_back(place: Place) -> None:
    """Promise 5: servers that are open see the old metadata at once; count, expiry and activity stay."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a", {"cart": [1, 2]})
        made = await place.backup()
        await sessions.update_metadata(new.token, {"cart": None, "spoilt": True})
        for _ in range(3):
            await sessions.validate_session(new.token)
        extended = await sessions.extend_session(new.token, hours=48)

        done = await place.restore(made.path)

        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"cart": [1, 2]}
        assert (session.request_count, session.expires_at) == (3, extended)
        changed = await sessions.update_metadata(new.token, {"more": 1})
        assert changed is not None
        assert changed.metadata == {"cart": [1, 2], "more": 1}
    assert done.merged.metadata_restored == 1


async def test_what_was_there_is_kept(place: Place) -> None:
    """Issue 4: a restore can itself be taken back: what was there is a backup now."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a", {"n": 1})
        made = await place.backup()
        await sessions.update_metadata(new.token, {"n": 2})
        done = await place.restore(made.path)
        assert done.before is not None
        await place.restore(done.before)
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 2}


@pytest.mark.parametrize("keep", [False, True])
async def test_a_lost_store(place: Place, keep: bool) -> None:
    """Promise 2: nobody knows what ended since, so nothing comes back live unless that is said."""
    async with place.manager() as sessions:
        new, over = await sessions.create_session("a", {"n": 1}), await sessions.create_session("b")
        await sessions.delete_session(over.token)
    made = await place.backup()
    place.lose()

    done = await place.restore(made.path, keep_sessions_live=keep)

    async with place.manager() as sessions:
        session = await sessions.validate_session(new.token)
        assert (session is not None) is keep
        assert await sessions.why_ended(new.token) == (None if keep else "revoked")
        assert await sessions.why_ended(over.token) == "revoked"
        assert await sessions.create_session("c")
    assert (done.before, done.merged.brought_back, done.merged.brought_back_ended) == (
        None,
        2 if keep else 0,
        0 if keep else 2,
    )
    # It is the same store again, for the backups to come.
    assert (await place.backup()).manifest.store_id == made.manifest.store_id


async def test_sessions_that_were_deleted_by_mistake(place: Place) -> None:
    """A row that the store does not know stays away, or comes back live when an operator says so."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a")
        made = await place.backup()
        await asyncio.to_thread(place.run, "DELETE FROM sessions")
        assert (await place.restore(made.path)).merged.left_out == 1
        assert await sessions.get_session(new.token) is None
        assert (await place.restore(made.path, keep_sessions_live=True)).merged.brought_back == 1
        assert await sessions.get_session(new.token)


async def test_an_end_of_the_backup_counts_too(place: Place) -> None:
    """Promise 2: whatever made it live again, a session that had ended in the backup ends, and sockets hear of it."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a")
        await sessions.delete_session(new.token)
        made = await place.backup()
        await asyncio.to_thread(place.run, "UPDATE sessions SET ended_at = NULL, end_reason = NULL")
        assert await sessions.get_session(new.token)
        async with asyncio.timeout(10), sessions.watch(new.token) as watch:
            await place.restore(made.path)
            end = await watch.wait()
            assert end is not None
            assert end.reason == "revoked"


async def test_a_backup_of_another_store_is_refused(place: Place) -> None:
    """Issue 4: it is refused; taken all the same, its sessions come ended, and the store stays the one it is."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a")
        made = await place.backup()
        foreign = "0" * 32
        await asyncio.to_thread(
            place.run, "DELETE FROM sessions", f"UPDATE holdfast_control SET store_id = '{foreign}'"
        )
        own = await sessions.create_session("b")
        with pytest.raises(StoreRefused, match="another store"):
            await place.restore(made.path)
        done = await place.restore(made.path, from_another_store=True)
        assert done.merged.brought_back_ended == 1
        assert await sessions.why_ended(new.token) == "revoked"
        assert await sessions.get_session(own.token)
    after = await place.backup()
    assert after.manifest.store_id is not None
    assert after.manifest.store_id.hex == foreign


async def test_a_newer_schema_is_refused(place: Place) -> None:
    """Issue 4: a backup of a newer version is refused, and nothing changes."""
    made = await place.backup()
    with pytest.raises(StoreRefused, match="newer version"):
        await place.restore(edited(made.path, revision="9999"))
    with pytest.raises(StoreRefused, match="newer version"):
        await place.restore(edited((await place.backup()).path, format=2))


async def test_an_older_schema_is_brought_up_to_date(place: Place) -> None:
    """A backup from before an upgrade is of use after it."""
    async with place.manager() as sessions:
        new = await sessions.create_session("a", {"n": 1})
    await schema.downgrade(place.address, place.options, "0001")
    made = await place.backup()
    assert (made.manifest.revision, made.manifest.store_id) == ("0001", None)
    await schema.upgrade(place.address)
    async with place.manager() as sessions:
        await sessions.update_metadata(new.token, {"n": 2})
        with pytest.raises(StoreRefused, match="another store"):
            await place.restore(made.path)
        await place.restore(made.path, from_another_store=True)
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 1}
    place.lose()
    await place.restore(made.path, keep_sessions_live=True)
    async with place.manager() as sessions:
        assert await sessions.get_session(new.token)


async def test_a_store_without_the_authority_is_left_alone(place: Place) -> None:
    """Promise 8: neither a store that accepts no writes takes a backup, nor is a backup of one restored."""
    made = await place.backup()
    place.run("UPDATE holdfast_control SET authority = 'elsewhere'")
    with pytest.raises(AuthorityMoved):
        await place.restore(made.path)
    stale = await place.backup()
    place.run("UPDATE holdfast_control SET authority = 'here'")
    with pytest.raises(StoreRefused, match="did not accept writes"):
        await place.restore(stale.path)


async def test_through_a_pooler(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """A pooler in transaction mode is no hindrance, with and without metadata that needs escapes."""
    direct = Place(migrated_database(None), tmp_path / "backups")
    async with TransactionPooler(direct.address) as pooler:
        pooled = Place(f"{pooler.address}?pgbouncer=true", tmp_path / "backups")
        async with direct.manager() as sessions:
            odd = {"text": 'a\tb\nc\\d "e" \u2028 \U0001f600'}
            new = await sessions.create_session("user\\N\\.", odd)
            made = await pooled.backup()
            await sessions.update_metadata(new.token, {"text": None})
            await pooled.restore(made.path)
            session = await sessions.get_session(new.token)
            assert session is not None
            assert (session.metadata, session.user_id) == (odd, "user\\N\\.")


async def test_in_a_schema_of_its_own(tmp_path: Path, postgres_database: DatabaseFactory) -> None:
    """PRODUCT 3: the tables may be in another schema, beside a `sessions` of the application's own."""
    place = Place(postgres_database(), tmp_path / "backups", StoreOptions(schema="app"))
    await schema.upgrade(place.address, place.options)
    await asyncio.to_thread(place.run, "CREATE TABLE public.sessions (token text)", "CREATE TABLE app.orders (id int)")
    async with place.manager(options=place.options) as sessions:
        new = await sessions.create_session("u", {"n": 1})
        made = await place.backup()
        assert "orders.copy" not in made.manifest.files
        await sessions.update_metadata(new.token, {"n": 2})
        await place.restore(made.path)
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 1}
    await asyncio.to_thread(place.run, "DROP SCHEMA app CASCADE")
    await place.restore(made.path)
    async with place.manager(options=place.options) as sessions:
        assert await sessions.why_ended(new.token) == "revoked"


async def test_the_other_kind_is_refused(file_place: Place, migrated_database: MigratedDatabases) -> None:
    """A backup of a file goes into a file, one of PostgreSQL into PostgreSQL; the sentence says with which option."""
    other = Place(migrated_database(None), file_place.folder)
    for source, target, option in ((file_place, other, "--sqlite"), (other, file_place, "--postgres")):
        made = await source.backup()
        with pytest.raises(StoreRefused, match=option):
            await target.restore(made.path)


async def test_a_legacy_file_is_kept_as_it_is(tmp_path: Path) -> None:
    """Issue 4: pages and all, even while its application writes; it goes back only where there is none."""
    place = Place(str(tmp_path / "legacy.db"), tmp_path / "backups")
    legacy_file(place.path, [("session-1", "u", "{}", "2026", "2027", "2026", 0)])
    with closing(sqlite3.connect(place.address)) as application:
        application.execute("UPDATE sessions SET user_id = 'v'")
        made = await place.backup()
    assert (made.manifest.kind, made.manifest.rows) == ("legacy", {"sessions": 1})
    # Every page, but for the counters of changes in the header.
    assert (made.path / "sessions.db").read_bytes()[100:] == place.path.read_bytes()[100:]
    with pytest.raises(StoreRefused, match="only where there is none"):
        await place.restore(made.path, keep_sessions_live=True)
    other = Place(str(tmp_path / "other.db"), tmp_path / "backups")
    with pytest.raises(StoreRefused, match="--keep-sessions-live"):
        await other.restore(made.path)
    await other.restore(made.path, keep_sessions_live=True)
    assert other.run("SELECT * FROM sessions") == place.run("SELECT * FROM sessions")


async def test_a_move_under_way_begins_anew(file_place: Place) -> None:
    """Promise 8: what replaces a lost file is not taken for its continuation by a move that followed it."""
    file_place.run("CREATE TABLE holdfast_move (id INTEGER PRIMARY KEY, capture TEXT)")
    file_place.run("INSERT INTO holdfast_move VALUES (1, 'one stretch of the log')")
    made = await file_place.backup()
    await file_place.restore(made.path)
    assert file_place.run("SELECT capture FROM holdfast_move") == [["one stretch of the log"]]
    file_place.lose()
    await file_place.restore(made.path)
    assert file_place.run("SELECT capture FROM holdfast_move") != [["one stretch of the log"]]


@pytest.mark.parametrize("damage", ["text", "pages", "empty", "no control row"])
async def test_a_damaged_file_is_replaced_and_kept(file_place: Place, damage: str) -> None:
    """F-48: it is moved aside whole, its log with it, and what comes in its place has nothing live."""
    async with file_place.manager() as sessions:
        tokens = [(await sessions.create_session("a", {"filler": "x" * 2000})).token for _ in range(50)]
    made = await file_place.backup()
    match damage:
        case "text":
            file_place.path.write_bytes(b"this is no database, and never was one\n" * 200)
        case "pages":
            whole = bytearray(file_place.path.read_bytes())
            whole[8192:-8192] = os.urandom(len(whole) - 16384)
            file_place.path.write_bytes(whole)
        case "empty":
            file_place.path.write_bytes(b"")
        case _:
            file_place.run("DELETE FROM holdfast_control")
    before = file_place.path.read_bytes()
    log = file_place.path.with_name("sessions.db-wal")
    log.write_bytes(b"a log that belongs to the old file")

    done = await file_place.restore(made.path)

    # Beside an empty file SQLite itself removes a log, when it looks.
    logs = [] if damage == "empty" else [True]
    assert [each.name.endswith("-wal") for each in done.aside] == [False, *logs]
    if damage != "no control row":
        assert done.aside[0].read_bytes() == before
    async with file_place.manager() as sessions:
        assert {await sessions.why_ended(token) for token in tokens} == {"revoked"}
        assert await sessions.get_active_session_count() == 0
        assert await sessions.create_session("a")
    assert [each.name for each in file_place.path.parent.glob(".*")] == []


async def test_a_file_that_is_served_is_not_replaced(file_place: Place) -> None:
    """A damaged file that a server has open is left until the server is stopped."""
    made = await file_place.backup()
    shutil.copy(file_place.path, file_place.path.with_name("copy.db"))
    file_place.path.write_bytes(b"this is no database, and never was one\n")
    server = await asyncio.create_subprocess_exec(
        "tail", "-f", str(file_place.path), stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    assert server.stdout is not None
    await server.stdout.readline()
    with pytest.raises(StoreRefused, match=f"process {server.pid} has"):
        await file_place.restore(made.path)
    server.kill()
    await server.wait()
    await file_place.restore(made.path)


async def test_somebody_elses_file_is_refused(file_place: Place) -> None:
    """A sound file that is not a store of Holdfast's is never replaced."""
    made = await file_place.backup()
    other = Place(str(file_place.path.with_name("other.db")), file_place.folder)
    other.run("CREATE TABLE invoices (id integer)")
    with pytest.raises(StoreRefused, match="not a Holdfast store"):
        await other.restore(made.path)
    assert other.run("SELECT name FROM sqlite_master") == [["invoices"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
async def test_root_restores_for_the_user_of_the_store(file_place: Place) -> None:
    """The server can open what root has put in place, the lock too; backups of that user are trusted."""
    made = await file_place.backup()
    for each in (file_place.folder, made.path, *made.path.iterdir(), file_place.path.parent):
        os.chown(each, 65534, 65534)
    file_place.lose()
    await file_place.restore(made.path)
    assert {each.name: each.stat().st_uid for each in file_place.path.parent.iterdir()} == {
        "sessions.db": 65534,
        "sessions.db-lock": 65534,
    }
