"""The three commands as their users meet them: streams, exit codes, JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holdfast.cli.commands import app
from tests.backups.conftest import Place
from tests.backups.test_damage import flip
from tests.cli.command import run


def variables(place: Place) -> dict[str, str]:
    """The environment of a command."""
    named = {"HOLDFAST_SQLITE_PATH": place.address} if place.is_sqlite else {"DATABASE_URL": place.address}
    return {"HOLDFAST_BACKUP_DIRECTORY": str(place.folder), **named}


async def test_there_and_back(place: Place, tmp_path: Path) -> None:
    """Issue 4: taken, put back by its name, pruned; paths to standard output, sentences to standard error."""
    async with place.manager() as sessions:
        new = await sessions.create_session("u", {"n": 1})
        taken = run("db", "backup", folder=tmp_path, **variables(place))
        assert taken.returncode == 0, taken.stderr
        path = place.backups()[0].path
        assert taken.stdout == f"{path}\n"
        assert "backed up and verified" in taken.stderr
        await sessions.update_metadata(new.token, {"n": 2})

        restored = run("db", "restore", path.name, "--yes", folder=tmp_path, **variables(place))
        assert restored.returncode == 0, restored.stderr
        # Names of one second are in no order.
        (before,) = (each.path for each in place.backups() if each.path != path)
        assert restored.stdout == f"{before}\n"
        assert "1 live sessions have the metadata of the backup again" in restored.stderr
        session = await sessions.get_session(new.token)
        assert session is not None
        assert session.metadata == {"n": 1}

    pruned = run("db", "prune", "--keep-days", "0", folder=tmp_path, **variables(place))
    assert (pruned.returncode, pruned.stdout.strip()) == (0, str(path))
    assert new.token not in taken.stdout + taken.stderr + restored.stdout + restored.stderr


def test_json(file_place: Place, tmp_path: Path) -> None:
    """Programs get one object each."""
    taken = json.loads(run("db", "backup", "--json", folder=tmp_path, **variables(file_place)).stdout)
    assert set(taken) == {"path", "kind", "revision", "store_id", "authority", "taken_at", "rows"}
    assert taken["kind"] == "sqlite"
    restored = run("db", "restore", taken["path"], "--yes", "--json", folder=tmp_path, **variables(file_place))
    assert json.loads(restored.stdout)["brought_back"] == 0
    pruned = json.loads(run("db", "prune", "--dry-run", "--json", folder=tmp_path, **variables(file_place)).stdout)
    assert (pruned["dry_run"], len(pruned["kept"])) == (True, 2)


def test_exit_codes(file_place: Place, tmp_path: Path) -> None:
    """2 for what is missing in the arguments, 4 for what is refused; the sentence says what to do."""
    given = variables(file_place)
    path = run("db", "backup", folder=tmp_path, **given).stdout.strip()
    unasked = run("db", "restore", path, folder=tmp_path, **given)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    missing = run("db", "restore", "nowhere.holdfast", "--yes", folder=tmp_path, **given)
    assert (missing.returncode, "there is no backup" in missing.stderr) == (3, True)
    flip(Path(path))
    for arguments, sentence in (
        (("restore", path, "--yes"), "is damaged"),
        (("backup", "--postgres", "postgresql://holdfast:hunter2@127.0.0.1:1/app"), "nobody listens there"),
    ):
        refused = run("db", *arguments, folder=tmp_path, **given)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert sentence in refused.stderr
        assert "hunter2" not in refused.stderr


@pytest.mark.parametrize("command", ["backup", "restore", "prune"])
def test_help(command: str) -> None:
    """Every command shows how it is used."""
    shown = CliRunner().invoke(app, ["db", command, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
