"""`holdfast db import` as an installed program: what it prints, what it refuses, and killed in the middle."""

import asyncio
import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast.imports.run import Wishes
from holdfast.imports.whole import in_place
from holdfast.sessions.store import StoreOptions
from tests.cli.command import run, run_program
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file, plain_row
from tests.imports.legacy_table import digest_of_rows, make_table
from tests.support.admin import execute, with_login


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
    assert "there is no file old.db" in missing.stderr
    zone = run("db", "import", "--from-sqlite", "old.db", "--legacy-tz", "Nowhere/None", folder=tmp_path)
    assert zone.returncode == 4
    assert "HOLDFAST_LEGACY_TZ" in zone.stderr


def test_a_table_in_place_from_the_first_look_to_the_end(migrated_database: MigratedDatabases, tmp_path: Path) -> None:
    """Counts that add up, live rows left behind by their exact number only, taken back, and made final."""
    address = make_table(migrated_database(None), 600)
    execute(
        address,
        "ALTER TABLE sessions ALTER session_id TYPE varchar(400)",
        "UPDATE sessions SET session_id = repeat('x', 299 + request_count) WHERE request_count IN (3, 4)",
        "UPDATE sessions SET session_id = repeat('y', 300), expires_at = '-infinity' WHERE request_count = 5",
        "UPDATE sessions SET metadata = 'no json' WHERE request_count BETWEEN 6 AND 9",
    )
    before = digest_of_rows(address)
    command = ["db", "import", "--in-place", "--postgres", address, "--legacy-tz", "UTC"]
    for count in ("0", "1", "3"):
        refused = run(*command, "--accept-quarantined", count, folder=tmp_path)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert "--accept-quarantined 2" in refused.stderr
    dry = run(*command, "--dry-run", "--json", folder=tmp_path)
    assert digest_of_rows(address) == before
    done = run_program(*command, "--accept-quarantined", "2", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    looked, report = json.loads(dry.stdout), json.loads(done.stdout)
    assert (report["exact"], report["repaired"], report["quarantined"], report["quarantined_live"]) == (592, 5, 3, 2)
    assert report["exact"] + report["repaired"] + report["quarantined"] == report["rows"] == report["new"] == 600
    assert {**report, "backup": None, "dry_run": True, "new": 0} == looked
    notes = "SELECT count(*) FILTER (WHERE session_id IS NULL AND live), count(*) FROM holdfast_imported"
    assert execute(address, notes) == [[2, 600]]
    unsure = run(*command, "--undo", folder=tmp_path)
    assert unsure.returncode != 0
    undone = run(*command, "--undo", "--yes", "--json", folder=tmp_path)
    assert (undone.returncode, json.loads(undone.stdout)) == (0, {"undone": 0})
    assert digest_of_rows(address) == before
    assert run(*command, "--accept-quarantined", "2", folder=tmp_path).returncode == 0
    confirmed = run_program(*command, "--confirm", "--yes", "--json", folder=tmp_path)
    assert (confirmed.returncode, json.loads(confirmed.stdout)) == (0, {"dropped": 1})
    assert "xxx" not in dry.stderr + done.stdout + done.stderr + undone.stderr + confirmed.stderr
    too_late = run(*command, "--undo", "--yes", folder=tmp_path)
    assert too_late.returncode == 4
    assert "no table to put back" in too_late.stderr


def test_what_a_role_may_not_do_is_said_before_anything_is_done(
    migrated_database: MigratedDatabases, tmp_path: Path
) -> None:
    """All that is missing at once, as statements where there are such."""
    address = make_table(migrated_database(None), 5)
    execute(
        address,
        "DO $$ BEGIN CREATE ROLE holdfast_test_poor LOGIN PASSWORD 'poor'; EXCEPTION WHEN duplicate_object THEN END $$",
        "GRANT USAGE ON SCHEMA public TO holdfast_test_poor",
        "GRANT SELECT ON sessions TO holdfast_test_poor",
    )
    try:
        poor = with_login(address, "holdfast_test_poor", "poor")
        refused = run("db", "import", "--in-place", "--postgres", poor, folder=tmp_path)
        assert refused.returncode == 4
        for missing in ("own the table", "GRANT CREATE ON SCHEMA public", "GRANT CREATE ON DATABASE"):
            assert missing in refused.stderr
        assert list(tmp_path.iterdir()) == []
    finally:
        execute(address, "DROP OWNED BY holdfast_test_poor", "DROP ROLE holdfast_test_poor")


def test_two_imports_at_once(migrated_database: MigratedDatabases, tmp_path: Path) -> None:
    """The second is told of the first."""
    address = make_table(migrated_database(None), 5)
    told: list[int] = []

    def tell(step: str, _: int) -> None:
        if step == "prepared":
            second = run("db", "import", "--in-place", "--postgres", address, folder=tmp_path)
            told.append(second.returncode)
            assert "another import" in second.stderr

    asyncio.run(in_place(address, StoreOptions(), tmp_path, Wishes(ZoneInfo("UTC")), tell, dry=False))
    assert told == [4]
