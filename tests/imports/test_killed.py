"""Imports as commands that are killed at each of their steps, and then simply run again."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast import SessionManager
from holdfast.imports.run import Wishes
from holdfast.imports.whole import confirm_in_place, from_sqlite, in_place, undo_in_place
from holdfast.legacy.zone import zone_named
from holdfast.sessions.store import StoreOptions
from tests.cli.command import run, run_killed
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file, plain_row
from tests.imports.legacy_table import make_table, whose_table

KILLED = -signal.SIGKILL
ROWS = 600
OPTIONS = StoreOptions()
WISHES = Wishes(zone_named("UTC"))


def steps(names: str, rare: str) -> list[Any]:
    """Steps to die at, of which the rare ones take the tests' time only on demand."""
    return [*names.split(", "), *(pytest.param(each, marks=pytest.mark.soak) for each in rare.split(", ") if each)]


FROM_SQLITE = steps("importing", "reading, begun, copied, checking, verified, described, synced, published")
IN_PLACE = steps(
    "importing, locked, moved, committed",
    "reading, begun, counted, copying sessions, verified, described, synced, published, prepared, filled, caught up, "
    "put aside",
)
UNDO = steps("removed", "locked, ended, put back, committed")
CONFIRM = steps("dropped", "checked, committed")


class Steps(list[str]):
    """Told of steps, it is a list of them, each once."""

    def __call__(self, step: str, _: int) -> None:
        if step not in self:
            self.append(step)


def names(of: list[Any]) -> set[str]:
    """What a list of parameters names."""
    return {each if isinstance(each, str) else each.values[0] for each in of}


@pytest.fixture
def table(migrated_database: MigratedDatabases) -> str:
    """A database with an application's table."""
    return make_table(migrated_database(None), ROWS)


def command(address: str, *arguments: str) -> list[str]:
    """An import in place."""
    return ["db", "import", "--in-place", "--postgres", address, "--legacy-tz", "UTC", *arguments]


def imported(address: str, folder: Path, new: set[int]) -> None:
    """Import, as often as need be: it succeeds, and so many rows are new."""
    done = run(*command(address, "--json"), folder=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["exact"] + report["repaired"] + report["quarantined"] == report["rows"] == ROWS
    assert report["new"] in new


def serves(address: str) -> None:
    """Everybody is logged in, once."""

    async def ask() -> None:
        async with SessionManager(address, sweep_interval=None) as sessions:
            assert await sessions.get_active_session_count() == ROWS
            for number in (1, ROWS):
                assert await sessions.get_session(f"session-{number}") is not None
            assert await sessions.get_session(f"session-{ROWS + 1}") is None

    asyncio.run(ask())


def test_every_step_is_among_those_to_die_at(table: str, tmp_path: Path) -> None:
    """The lists above name all there are."""
    file = legacy_file(tmp_path / "old.db", [plain_row(f"session-{n}") for n in range(ROWS)])
    whole, place, undone, confirmed = Steps(), Steps(), Steps(), Steps()

    async def do_all() -> None:
        await from_sqlite(file, tmp_path / "new.db", OPTIONS, tmp_path, WISHES, whole, dry=False)
        await in_place(table, OPTIONS, tmp_path, WISHES, place, dry=False)
        await undo_in_place(table, OPTIONS, undone)
        await in_place(table, OPTIONS, tmp_path, WISHES, place, dry=False)
        await confirm_in_place(table, OPTIONS, confirmed)

    asyncio.run(do_all())
    assert set(whole) == names(FROM_SQLITE)
    assert set(place) == names(IN_PLACE)
    assert set(undone) == names(UNDO)
    assert set(confirmed) == names(CONFIRM)


@pytest.mark.parametrize("step", FROM_SQLITE)
def test_an_import_from_a_file(step: str, address: str, tmp_path: Path) -> None:
    """The next run does what the killed one had not; no half backup is taken for one."""
    source = legacy_file(tmp_path / "old.db", [plain_row(f"session-{n + 1}") for n in range(ROWS)])
    option = "--postgres" if "://" in address else "--sqlite"
    arguments = ["db", "import", "--from-sqlite", str(source), "--legacy-tz", "UTC", option, address]
    assert run_killed(*arguments, folder=tmp_path, step=step) == KILLED
    done = run(*arguments, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["exact"]) == (ROWS, ROWS)
    serves(address)


@pytest.mark.parametrize("step", IN_PLACE)
def test_an_import_in_place(step: str, table: str, tmp_path: Path) -> None:
    """Until the commit the table is the application's, whole; from then on it is Holdfast's, whole."""
    assert run_killed(*command(table), folder=tmp_path, step=step) == KILLED
    assert whose_table(table, ROWS) == ("Holdfast's" if step == "committed" else "the application's")
    imported(table, tmp_path, {0} if step == "committed" else {ROWS})
    assert whose_table(table, ROWS) == "Holdfast's"
    serves(table)


@pytest.mark.parametrize("step", UNDO)
def test_an_undo(step: str, table: str, tmp_path: Path) -> None:
    """The application has its table back, whole, or not yet; the same command gives it back, once."""
    imported(table, tmp_path, {ROWS})
    assert run_killed(*command(table, "--undo", "--yes"), folder=tmp_path, step=step) == KILLED
    assert whose_table(table, ROWS) == ("the application's" if step == "committed" else "Holdfast's")
    again = run(*command(table, "--undo", "--yes"), folder=tmp_path)
    assert again.returncode == (4 if step == "committed" else 0), again.stderr
    assert whose_table(table, ROWS) == "the application's"
    imported(table, tmp_path, {ROWS})
    serves(table)


@pytest.mark.parametrize("step", CONFIRM)
def test_a_confirmation(step: str, table: str, tmp_path: Path) -> None:
    """Holdfast serves all along; the tokens in clear are gone in the end."""
    imported(table, tmp_path, {ROWS})
    assert run_killed(*command(table, "--confirm", "--yes"), folder=tmp_path, step=step) == KILLED
    serves(table)
    again = run(*command(table, "--confirm", "--yes", "--json"), folder=tmp_path)
    assert json.loads(again.stdout) == {"dropped": int(step != "committed")}
    assert again.returncode == 0
    serves(table)
    undo = run(*command(table, "--undo", "--yes"), folder=tmp_path)
    assert undo.returncode == 4
