"""`holdfast db import` as an installed program: what it prints, what it refuses, and killed in the middle."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import SessionManager
from tests.cli.command import environment, run
from tests.imports.conftest import legacy_file, plain_row

ROOT = Path(__file__).parents[2]


def option_of(address: str) -> list[str]:
    """How a command is told of a store."""
    return ["--postgres" if "://" in address else "--sqlite", address]


def test_a_dry_run_then_the_import(address: str, tmp_path: Path) -> None:
    """The counts are the same, a backup comes first, and no token is shown."""
    token, user, _, *rest = plain_row("session-secret")
    source = legacy_file(tmp_path / "old.db", [(token, user, "no json", *rest), plain_row("session-2")])
    before = source.read_bytes()
    command = ["db", "import", "--from-sqlite", str(source), "--legacy-tz", "UTC", *option_of(address)]
    dry = run(*command, "--dry-run", "--json", folder=tmp_path)
    assert dry.returncode == 0, dry.stderr
    report = json.loads(dry.stdout)
    assert (report["rows"], report["exact"], report["repaired"], report["quarantined"]) == (2, 1, 1, 0)
    assert report["remarks"] == {"metadata is not JSON": 1}
    assert (report["dry_run"], report["backup"], report["new"]) == (True, None, 0)
    done = run(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, done.stdout.strip(), "sessions.db").exists()
    assert "2 rows: 1 exact, 1 repaired, 0 quarantined" in done.stderr
    assert "2 rows are new" in done.stderr
    assert source.read_bytes() == before
    assert "secret" not in dry.stdout + dry.stderr + done.stderr


def test_live_rows_stop_it_unless_their_number_is_accepted(tmp_path: Path) -> None:
    """Exit code 4, and the number to accept."""
    token, user, metadata, created, _, *rest = plain_row("session-1")
    source = legacy_file(
        tmp_path / "old.db", [(token, user, metadata, created, "never", *rest), plain_row("session-2")]
    )
    command = ["db", "import", "--from-sqlite", str(source), "--legacy-tz", "UTC", "--sqlite", "new.db"]
    refused = run(*command, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "--accept-quarantined 1" in refused.stderr
    assert not (tmp_path / "new.db").exists()
    assert run(*command, "--accept-quarantined", "1", folder=tmp_path).returncode == 0
    extended = run(*command, "--on-bad-expiry", "extend", "--json", folder=tmp_path)
    assert json.loads(extended.stdout)["repaired"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--from-sqlite", "old.db", "--in-place"],
        ["--from-sqlite", "old.db", "--undo"],
        ["--in-place", "--undo", "--confirm"],
        ["--in-place", "--undo", "--postgres", "postgresql://localhost/none"],
    ],
)
def test_what_does_not_go_together_is_a_mistake(arguments: list[str], tmp_path: Path) -> None:
    """Exit code 2, before anything is looked at."""
    assert run("db", "import", *arguments, folder=tmp_path).returncode == 2


def test_what_is_no_legacy_file_is_refused(tmp_path: Path) -> None:
    """Not there, and a zone that there is not."""
    missing = run("db", "import", "--from-sqlite", "old.db", "--sqlite", "new.db", folder=tmp_path)
    assert missing.returncode == 4
    assert "legacy form" in missing.stderr
    zone = run("db", "import", "--from-sqlite", "old.db", "--legacy-tz", "Nowhere/None", folder=tmp_path)
    assert zone.returncode == 4
    assert "HOLDFAST_LEGACY_TZ" in zone.stderr


@pytest.mark.parametrize("number", [2, 5, 9, 12, 14])
async def test_a_killed_run_is_finished_by_the_next(number: int, address: str, tmp_path: Path) -> None:
    """SIGKILL in the middle; afterwards everybody is logged in, once."""
    source = legacy_file(tmp_path / "old.db", [plain_row(f"session-{n}") for n in range(1800)])
    command = [sys.executable, "-m", "tests.imports.killed", address, str(tmp_path / "backups")]
    died = subprocess.run([*command, str(number), str(source)], cwd=ROOT, env=environment(), check=False)  # noqa: ASYNC221 - nothing else runs
    assert died.returncode == -signal.SIGKILL
    finished = subprocess.run([*command, "0", str(source)], cwd=ROOT, env=environment(), check=False)  # noqa: ASYNC221 - nothing else runs
    assert finished.returncode == 0
    async with SessionManager(address, sweep_interval=None) as sessions:
        assert await sessions.get_active_session_count() == 1800
        assert await sessions.validate_session("session-0") is not None
        assert await sessions.validate_session("session-1799") is not None
