"""A measurement leaves the application's sessions as they were, and nothing of its own."""

import asyncio
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.bench import places
from holdfast.bench.meaning import meaning
from holdfast.bench.measuring import Figures, measure
from holdfast.bench.places import PREFIX, place_of_its_own
from holdfast.settings import Settings
from holdfast.sql.transactions import within_transaction
from tests.cli.command import run
from tests.conftest import MigratedDatabases
from tests.support.admin import execute, with_login
from tests.support.fixtures import DatabaseFactory
from tests.support.polling import until
from tests.support.pooler import TransactionPooler

FIGURES = Figures("postgresql", "PostgreSQL at db/app", True, 100, 5_000, 9_000.0, 12_345.0, 7.1, 14.2, 1.1, 0.2)
QUICK = ("bench", "--seconds", "1", "--callers", "5")


def schemas(address: str) -> set[str]:
    """The schemas of the measurements in a database."""
    rows = execute(address, f"SELECT nspname FROM pg_namespace WHERE starts_with(nspname, '{PREFIX}')")
    return {name for (name,) in rows}


def test_a_measurement_on_postgresql_touches_no_session(migrated_database: MigratedDatabases, tmp_path: Path) -> None:
    """The application's rows are the same before and after, and no schema is left."""
    address = migrated_database(None)
    variables = {"DATABASE_URL": address}
    assert run("sessions", "create", "--user", "u1", folder=tmp_path, **variables).returncode == 0
    before = execute(address, "SELECT * FROM sessions")
    done = run(*QUICK, folder=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "validates a second" in done.stdout
    assert "requests a second" in done.stdout
    assert execute(address, "SELECT * FROM sessions") == before
    assert schemas(address) == set()


def test_a_measurement_on_sqlite_touches_no_file(tmp_path: Path) -> None:
    """Not the configured one, which is not even opened; and what was made beside it is gone."""
    path = tmp_path / "sessions.db"
    path.write_bytes(b"no database at all")
    done = run(*QUICK, "--json", "--sqlite", str(path), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["kind"] == "sqlite"
    assert found["callers"] == 5
    assert all(found[name] > 0 for name in ("validates_per_second", "creates_per_second", "alone", "round_trip", "p99"))
    assert found["meaning"]
    assert path.read_bytes() == b"no database at all"
    assert list(tmp_path.iterdir()) == [path]


def test_a_role_that_may_make_no_schema_is_told_what_it_needs(
    postgres_database: DatabaseFactory, tmp_path: Path
) -> None:
    """A refusal, code 4, with the right that is missing and no password."""
    address, role, password = postgres_database(), f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
    execute(address, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    done = run(*QUICK, folder=tmp_path, DATABASE_URL=with_login(address, role, password))
    execute(address, f"DROP ROLE {role}")
    assert done.returncode == 4, done.stderr
    assert "GRANT CREATE ON DATABASE" in done.stderr
    assert password not in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_measurement_behind_a_pooler(postgres_database: DatabaseFactory) -> None:
    """Nothing of it needs a connection to itself."""
    address = postgres_database()
    async with TransactionPooler(address, size=4) as pooler:
        variables = {"DATABASE_URL": pooler.address, "HOLDFAST_POOLED": "true"}
        figures = await measure(Settings.from_environment({**variables}), 1, 5)
    assert figures.validates_per_second > 0
    assert schemas(address) == set()


async def test_what_killed_measurements_left_is_removed(postgres_database: DatabaseFactory) -> None:
    """By the next one of the same role: but not what is young, nor what only has such a name."""
    address = postgres_database()
    made = "extract(epoch FROM clock_timestamp())::bigint"
    for name, said in (
        ("killed", f"'holdfast bench, may be dropped, made at ' || {made} - 3600"),
        ("running", f"'holdfast bench, may be dropped, made at ' || {made}"),
        ("other", "'ours'"),
    ):
        execute(address, f"CREATE SCHEMA {PREFIX}{name}", f"CREATE TABLE {PREFIX}{name}.sessions (id int)")
        execute(address, f"DO $$ BEGIN EXECUTE format('COMMENT ON SCHEMA {PREFIX}{name} IS %L', {said}); END $$")
    async with place_of_its_own(Settings.from_environment({"DATABASE_URL": address})):
        left = schemas(address)
    assert f"{PREFIX}killed" not in left
    assert schemas(address) == {f"{PREFIX}running", f"{PREFIX}other"}


async def test_a_machine_that_stalls_has_figures_too(tmp_path: Path) -> None:
    """A slice of the time may be over before its callers had a turn: each makes one call all the same."""
    figures = await measure(Settings.from_environment({"HOLDFAST_SQLITE_PATH": str(tmp_path / "s.db")}), 0.0, 2)
    assert (figures.sessions, figures.validates_per_second > 0, figures.alone > 0) == (2, True, True)


async def test_a_measurement_that_is_cancelled_as_its_schema_is_made_leaves_nothing(
    postgres_database: DatabaseFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes when the schema is there, and before anybody knows."""
    address, make = postgres_database(), within_transaction
    made: list[set[str]] = []

    async def cancelled_late(*arguments: Any) -> Any:
        answer = await make(*arguments)
        if not made:
            made.append(schemas(address))
            raise asyncio.CancelledError
        return answer

    monkeypatch.setattr(places, "within_transaction", cancelled_late)
    with pytest.raises(asyncio.CancelledError):
        await measure(Settings.from_environment({"DATABASE_URL": address}), 60, 5)
    assert made[0]
    assert schemas(address) == set()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_measurement_that_is_cancelled_leaves_nothing(
    kind: str, postgres_database: DatabaseFactory, tmp_path: Path
) -> None:
    """Whoever presses Ctrl-C has no tables to look for."""
    address = postgres_database()
    variables = {"DATABASE_URL": address} if kind == "postgresql" else {"HOLDFAST_SQLITE_PATH": str(tmp_path / "s.db")}
    measuring = asyncio.create_task(measure(Settings.from_environment({**variables}), 60, 5))

    def begun() -> bool:
        return bool(schemas(address) if kind == "postgresql" else list(tmp_path.glob("*/sessions.db")))

    await asyncio.to_thread(until, begun, what="the measurement has tables of its own")
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert schemas(address) == set()
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


def test_figures_are_explained_in_sentences() -> None:
    """The first one says what an application can expect."""
    first, second, third = meaning(FIGURES)
    assert "12,000 sessions a second here, each on the disk before its answer" in first
    assert "6,200 requests a second" in first
    assert "7.1 ms" in second
    assert "0.2 ms for the way" in third


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"durable": False}, "fsync off"), ({"alone": 30.0}, "disk"), ({"round_trip": 0.9}, "closer")],
)
def test_what_limits_is_named(changes: dict[str, Any], said: str) -> None:
    """One more sentence where there is something to do about it."""
    assert said in meaning(replace(FIGURES, **changes))[-1]
