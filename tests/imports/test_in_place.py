"""A legacy table in PostgreSQL that becomes Holdfast's in place: imported, undone, confirmed, killed in between."""

import asyncio
import hashlib
import signal
import stat
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast import SessionManager
from holdfast.imports.run import Tell, Wishes
from holdfast.imports.whole import confirm_in_place, in_place, undo_in_place
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from tests.cli.command import environment
from tests.conftest import MigratedDatabases
from tests.support.admin import execute

FORM = """CREATE TABLE sessions (session_id varchar(100) PRIMARY KEY, user_id varchar(100), metadata text,
    created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, last_activity timestamptz NOT NULL,
    request_count integer DEFAULT 0)"""
ROWS = """INSERT INTO sessions SELECT 'session-' || n, 'user-' || n, '{"n": ' || n || '}', now() - interval '1 hour',
    CASE n WHEN 1 THEN 'infinity' ELSE now() + interval '5 hours' END, now(), n FROM generate_series(1, 1200) AS n"""
OPTIONS = StoreOptions()
ROOT = Path(__file__).parents[2]
WISHES = Wishes(ZoneInfo("UTC"))


@pytest.fixture
def address(migrated_database: MigratedDatabases) -> str:
    """A database as an application with a legacy table left it."""
    made = migrated_database(None)
    execute(
        made,
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        FORM,
        "CREATE INDEX idx_expires_at ON sessions(expires_at)",
        ROWS,
    )
    return made


def digest_of_rows(address: str) -> str:
    """Of the application's whole table."""
    rows = execute(address, "SELECT s::text FROM sessions AS s ORDER BY session_id")
    return hashlib.sha256(repr(rows).encode()).hexdigest()


async def run(address: str, folder: Path, tell: Tell = lambda _step, _rows: None, *, dry: bool = False) -> int:
    """Import; how many rows were new."""
    report, _ = await in_place(address, OPTIONS, folder, WISHES, tell, dry=dry)
    assert report.rows == report.exact + report.repaired + report.quarantined == 1200
    return report.new


async def test_everybody_stays_logged_in(address: str, tmp_path: Path) -> None:
    """The tokens work, the backup is the owner's only, and confirming drops the tokens in clear."""
    report, backup = await in_place(address, OPTIONS, tmp_path, WISHES, lambda _step, _rows: None, dry=False)
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
    assert await confirm_in_place(address, OPTIONS)
    assert not await confirm_in_place(address, OPTIONS)
    assert execute(address, "SELECT to_regclass('holdfast_legacy_sessions')::text") == [[None]]
    with pytest.raises(StoreRefused, match="no table to put back"):
        await undo_in_place(address, OPTIONS)


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
    assert await undo_in_place(address, OPTIONS) == 0
    assert (digest_of_rows(address), execute(address, indexes)) == (before, names)
    await run(address, tmp_path)
    async with SessionManager(address, sweep_interval=None) as sessions:
        await sessions.delete_session("session-7")
    assert await undo_in_place(address, OPTIONS) == 1
    assert execute(address, "SELECT count(*) FROM sessions WHERE session_id = 'session-7'") == [[0]]


@pytest.mark.parametrize("number", [2, 4, 5, 6, 7, 8, 9, 10])
async def test_a_killed_run_is_finished_by_the_next(number: int, address: str, tmp_path: Path) -> None:
    """Wherever it died: nothing comes twice, and a file that was never finished counts for nothing."""
    command = [sys.executable, "-m", "tests.imports.killed", address, str(tmp_path), str(number)]
    died = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=environment(), check=False)
    assert died.returncode == -signal.SIGKILL
    await run(address, tmp_path)
    counts = "SELECT count(*), count(DISTINCT digest), sum(request_count) FROM sessions WHERE clear_token"
    assert execute(address, counts) == [[1200, 1200, 1200 * 1201 // 2]]


async def test_no_table_is_refused(address: str, tmp_path: Path) -> None:
    """Nothing there, or Holdfast's own."""
    execute(address, "DROP TABLE sessions")
    with pytest.raises(StoreRefused, match="legacy form"):
        await run(address, tmp_path)
