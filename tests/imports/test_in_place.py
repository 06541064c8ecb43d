"""A legacy table in PostgreSQL that becomes Holdfast's in place: imported, undone, confirmed, killed in between."""

import asyncio
import stat
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from holdfast import SessionManager
from holdfast.backups.archive import Tell, tell_nobody
from holdfast.imports.run import Wishes
from holdfast.imports.whole import confirm_in_place, in_place, undo_in_place
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from tests.conftest import MigratedDatabases
from tests.imports.legacy_table import digest_of_rows, make_table, whose_table
from tests.support.admin import execute

OPTIONS = StoreOptions()
NEW_ROW = """INSERT INTO sessions SELECT 'session-new', user_id, 'no json', created_at, expires_at, now(), 5
    FROM sessions WHERE session_id = 'session-2'"""
WISHES = Wishes(ZoneInfo("UTC"))


@pytest.fixture
def address(migrated_database: MigratedDatabases) -> str:
    """A database as an application with a legacy table left it."""
    return make_table(migrated_database(None))


async def run(address: str, folder: Path, tell: Tell = tell_nobody, *, dry: bool = False) -> int:
    """Import; how many rows were new."""
    report, _ = await in_place(address, OPTIONS, folder, WISHES, tell, dry=dry)
    assert report.rows == report.exact + report.repaired + report.quarantined == 1200
    return report.new


async def test_everybody_stays_logged_in(address: str, tmp_path: Path) -> None:
    """The tokens work, the backup is the owner's only, and confirming drops the tokens in clear."""
    report, backup = await in_place(address, OPTIONS, tmp_path, WISHES, tell_nobody, dry=False)
    assert (report.exact, report.repaired, report.live) == (1199, 1, 1200)
    assert backup is not None
    copy = backup / "sessions.copy"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.read_bytes().count(b"\n") == 1200
    async with SessionManager(address, sweep_interval=None) as sessions:
        for number in (1, 7, 1200):
            session = await sessions.validate_session(f"session-{number}")
            assert session is not None
            assert (session.user_id, session.metadata, session.request_count) == (
                f"user-{number}",
                {"n": number},
                number + 1,
            )
        assert await sessions.validate_session("session-1201") is None
    assert await confirm_in_place(address, OPTIONS, tell_nobody)
    assert not await confirm_in_place(address, OPTIONS, tell_nobody)
    assert execute(address, "SELECT to_regclass('holdfast_legacy_sessions')::text") == [[None]]
    with pytest.raises(StoreRefused, match="no table to put back"):
        await undo_in_place(address, OPTIONS, tell_nobody)


async def test_a_dry_run_changes_nothing(address: str, tmp_path: Path) -> None:
    """It reads and counts."""
    before = digest_of_rows(address)
    assert await run(address, tmp_path, dry=True) == 0
    assert digest_of_rows(address) == before
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240 - nothing else runs


async def test_undo_gives_the_table_back_as_it_was(address: str, tmp_path: Path) -> None:
    """Byte for byte and with its indexes, but for what ended in Holdfast."""
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    before, names = digest_of_rows(address), execute(address, indexes)
    await run(address, tmp_path)
    assert await undo_in_place(address, OPTIONS, tell_nobody) == 0
    assert (digest_of_rows(address), execute(address, indexes)) == (before, names)
    await run(address, tmp_path)
    async with SessionManager(address, sweep_interval=None) as sessions:
        await sessions.delete_session("session-7")
    assert await undo_in_place(address, OPTIONS, tell_nobody) == 1
    assert execute(address, "SELECT count(*) FROM sessions WHERE session_id = 'session-7'") == [[0]]


async def test_no_table_is_refused(address: str, tmp_path: Path) -> None:
    """Nothing there, or Holdfast's own."""
    execute(address, "DROP TABLE sessions")
    for _ in range(2):
        with pytest.raises(StoreRefused, match="legacy form"):
            await run(address, tmp_path)
        await schema.upgrade(address)


async def test_the_application_may_go_on_until_it_is_done(address: str, tmp_path: Path) -> None:
    """What it writes until the very last moment is carried: rows that come, go and change; the counts are of that."""
    written = (
        "UPDATE sessions SET request_count = 1007, last_activity = now() WHERE session_id = 'session-7'",
        "DELETE FROM sessions WHERE session_id = 'session-8'",
        "DELETE FROM sessions WHERE session_id = 'session-1'",
        NEW_ROW,
        "UPDATE sessions SET session_id = 'session-moved' WHERE session_id = 'session-9'",
    )

    told: Counter[str] = Counter()

    def tell(step: str, _: int) -> None:
        told[step] += 1
        if step == "filled" and told["filled"] == 1:
            execute(address, *written)

    report, _ = await in_place(address, OPTIONS, tmp_path, WISHES, tell, dry=False)
    assert (report.exact, report.repaired, report.quarantined, report.new) == (1198, 1, 0, 1199)
    assert report.remarks == {"metadata is not JSON": 1}
    kept = execute(address, "SELECT count(*), count(DISTINCT digest) FROM holdfast_imported")
    assert kept == [[1199, 1199]]
    async with SessionManager(address, sweep_interval=None) as sessions:
        assert await sessions.get_active_session_count() == 1199
        session = await sessions.get_session("session-7")
        assert session is not None
        assert session.request_count == 1007
        for token in ("session-8", "session-1", "session-9"):
            assert await sessions.validate_session(token) is None
        for token in ("session-new", "session-moved"):
            assert await sessions.validate_session(token) is not None
    assert execute(address, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'holdfast_import%'") == [[0]]


async def test_a_writer_sees_all_of_before_or_all_of_after(address: str, tmp_path: Path) -> None:
    """A writer that never pauses: every count it was told of is there, and then its statement fails at once."""
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        connection = await asyncpg.connect(address)
        try:
            while True:
                number = acknowledged % 1200 + 1
                statement = "UPDATE sessions SET request_count = request_count + 1 WHERE session_id = $1"
                assert await connection.execute(statement, f"session-{number}") == "UPDATE 1"
                acknowledged += 1
        finally:
            connection.terminate()

    writing = asyncio.create_task(write())
    await in_place(address, OPTIONS, tmp_path, WISHES, tell_nobody, dry=False)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await writing
    assert acknowledged > 0
    assert execute(address, "SELECT sum(request_count) FROM sessions") == [[1200 * 1201 // 2 + acknowledged]]


async def test_what_comes_at_the_last_moment_is_not_left_behind_unasked(address: str, tmp_path: Path) -> None:
    """A live row that cannot be carried, written after everything was looked at: all is as it was."""
    too_long = "INSERT INTO sessions SELECT session_id, repeat('x', 300), metadata, created_at, expires_at, "
    execute(address, "ALTER TABLE sessions ALTER session_id TYPE varchar(400)")

    told: Counter[str] = Counter()

    def tell(step: str, _: int) -> None:
        told[step] += 1
        if step == "filled" and told["filled"] == 1:
            statement = too_long.replace("session_id, repeat('x', 300)", "repeat('x', 300), user_id")
            execute(address, statement + "last_activity, 0 FROM sessions WHERE session_id = 'session-2'")

    with pytest.raises(StoreRefused, match="--accept-quarantined 1"):
        await in_place(address, OPTIONS, tmp_path, WISHES, tell, dry=False)
    assert execute(address, "SELECT count(*) FROM sessions WHERE session_id LIKE 'xxx%'") == [[1]]
    assert execute(address, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'holdfast_import%'") == [[0]]
    accepting = Wishes(ZoneInfo("UTC"), accept_quarantined=1)
    report, _ = await in_place(address, OPTIONS, tmp_path, accepting, tell_nobody, dry=False)
    assert (report.rows, report.quarantined, report.quarantined_live) == (1201, 1, 1)


async def test_the_tables_have_the_default_privileges_of_their_schema(address: str, tmp_path: Path) -> None:
    """As if they had been made there."""
    execute(
        address,
        "DO $$ BEGIN CREATE ROLE holdfast_test_reader; EXCEPTION WHEN duplicate_object THEN END $$",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO holdfast_test_reader",
    )
    try:
        await run(address, tmp_path)
        asked = "SELECT has_table_privilege('holdfast_test_reader', 'sessions', '{}')"
        assert execute(address, asked.format("SELECT")) == [[True]]
        assert execute(address, asked.format("UPDATE")) == [[False]]
    finally:
        execute(address, "DROP OWNED BY holdfast_test_reader", "DROP ROLE holdfast_test_reader")


async def test_what_depends_on_the_old_table_keeps_it(address: str, tmp_path: Path) -> None:
    """A foreign key and a view of the application: not dropped, and named."""
    execute(
        address,
        "CREATE TABLE carts (session_id varchar(100) REFERENCES sessions)",
        "CREATE VIEW online AS SELECT user_id FROM sessions",
    )
    await run(address, tmp_path)
    with pytest.raises(StoreRefused, match="carts_session_id_fkey of carts, view online"):
        await confirm_in_place(address, OPTIONS, tell_nobody)
    assert await undo_in_place(address, OPTIONS, tell_nobody) == 0
    assert whose_table(address, 1200) == "the application's"
