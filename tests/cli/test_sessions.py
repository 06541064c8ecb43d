"""`holdfast sessions`, driven as a program on both databases."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.sql import schema
from tests.cli.command import run
from tests.conftest import MigratedDatabases

UNKNOWN = "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b"
TOKEN = "hfs_" + "a" * 43 + "00000000"


class Program:
    """The command on one store, set by the environment as an operator sets it."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.said = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it prints; all that it said in either stream is remembered."""
        ran = run("sessions", *arguments, folder=self.folder, **self.variables)
        assert ran.returncode == code, ran.stdout + ran.stderr
        self.said += ran.stderr + ("" if arguments[0] == "create" else ran.stdout)
        return ran.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one JSON value that it prints."""
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture(params=["sqlite", "postgresql"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> Program:
    """The program on an empty store."""
    if request.param == "sqlite":
        asyncio.run(schema.upgrade(tmp_path / "sessions.db"))
        return Program(tmp_path, {"HOLDFAST_SQLITE_PATH": "sessions.db"})
    return Program(tmp_path, {"DATABASE_URL": migrated_database(None)})


def test_an_operators_day(sessions: Program) -> None:
    """Begin, look, list by pages, extend, end one and a user's rest; only `create` ever shows a token."""
    made = [sessions.json("create", "--user", "u1") for _ in range(3)]
    assert made[0]["token"].startswith("hfs_")
    ids = [each["id"] for each in made]
    shown = sessions.json("show", ids[0])
    assert (shown["user_id"], shown["request_count"], shown["expires_at"]) == ("u1", 0, made[0]["expires_at"])
    assert [each["id"] for each in sessions.json("list", "--user", "u1", "--limit", "2")] == ids[:2]
    assert [each["id"] for each in sessions.json("list", "--after", ids[1])] == ids[2:]
    assert sessions.json("extend", ids[0], "--hours", "48")["expires_at"] > made[0]["expires_at"]
    assert sessions("count") == "3\n"
    assert sessions.json("end", ids[0], "--yes") == {"ended": 1}
    assert sessions.json("end", "--user", "u1", "--keep", ids[2], "--yes") == {"ended": 1}
    assert sessions.json("count") == {"live": 1}
    assert sessions("cleanup") == "0\n"
    assert ids[2] in sessions("list")
    assert ids[2] in sessions("show", ids[2])
    assert not [each for each in made if each["token"] in sessions.said]


def test_what_is_not_there_is_code_3(sessions: Program) -> None:
    """Exit code 3: an id that no live session has."""
    sessions("show", UNKNOWN, code=3)
    sessions("extend", UNKNOWN, code=3)
    assert sessions.json("end", UNKNOWN, "--yes", code=3) == {"ended": 0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", TOKEN), "never an argument"),
        (("extend", TOKEN), "never an argument"),
        (("end", TOKEN, "--yes"), "never an argument"),
        (("end", "--user", TOKEN, "--yes"), "never an argument"),
        (("list", "--user", TOKEN), "never an argument"),
        (("end",), "--user"),
        (("end", UNKNOWN, "--keep", UNKNOWN), "--user"),
        (("end", UNKNOWN), "--yes"),
        (("end", UNKNOWN, "--yes", "--reason", "bored"), "revoked"),
        (("end", "--user", "u1", "--reason", "idle"), "single one"),
        (("create", "--metadata", "[1]"), "JSON object"),
        (("create", "--metadata", '{"a": 1, "a": 2}'), "each key once"),
        (("list", "--limit", "1001"), "1000"),
        (("count", "--sqlite", "x.db", "--postgres", "postgresql://x"), "exclude each other"),
    ],
)
def test_mistakes_are_code_2(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, with what to do, before anything is asked or made; a token is not repeated."""
    ran = run("sessions", *arguments, folder=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert says in ran.stderr
    assert TOKEN not in ran.stdout + ran.stderr
    assert not list(tmp_path.iterdir())


def test_metadata_is_given_as_json(sessions: Program) -> None:
    """What a session is to hold; what breaks the rules of metadata is a mistake, and begins nothing."""
    made = sessions.json("create", "--metadata", '{"device": "phone", "n": 1}')
    assert sessions.json("show", made["id"])["metadata"] == {"device": "phone", "n": 1}
    sessions("create", "--metadata", json.dumps({"filler": "x" * 20_000}), code=2)
    assert sessions.json("count") == {"live": 1}


def test_a_store_that_is_away_is_code_4(tmp_path: Path) -> None:
    """Exit code 4 when the database does not answer."""
    away = {"DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:9/nothing", "HOLDFAST_DEADLINE_SECONDS": "0.5"}
    ran = run("sessions", "count", folder=tmp_path, **away)
    assert ran.returncode == 4
    assert "hunter2" not in ran.stdout + ran.stderr
