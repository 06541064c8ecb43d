"""Every command, on SQLite and on PostgreSQL, for people and for programs. A new command without an entry fails."""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from typer.main import get_command

from holdfast.cli.commands import app
from holdfast.sql import schema
from holdfast.sql.address import parse_address
from tests.cli.command import run, run_program
from tests.imports.conftest import legacy_file, plain_row
from tests.support.admin import Databases, execute

ELSEWHERE = {"move", "demo", "bench"}
"""Commands and groups that have such tests of their own."""
SECRET = "a-secret-of-more-than-thirty-two-characters"


def commands(command: Any, name: str = "") -> Iterator[str]:
    """Every command by its words, whatever groups there are."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name
        return
    for each, inner in below.items():
        if name or each not in ELSEWHERE:
            yield from commands(inner, f"{name} {each}".strip())


@dataclass
class Desk:
    """An operator's place: a store, named by the environment, and a folder."""

    kind: str
    folder: Path
    variables: dict[str, str]
    program: bool = False
    """Whether commands for people are run by the program itself, its start included."""

    def __call__(self, *arguments: str, code: int = 0) -> CompletedProcess[str]:
        """Run a command for people."""
        ran = (run_program if self.program else run)(*arguments, folder=self.folder, **self.variables)
        assert ran.returncode == code, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one value that a command prints for programs."""
        ran = run(*arguments, "--json", folder=self.folder, **self.variables)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    def session(self, user: str = "u1") -> str:
        """The id of a new session."""
        return str(self.json("sessions", "create", "--user", user, "--metadata", '{"device": "phone"}')["id"])


def serve(desk: Desk) -> None:
    """What it would do; it does it in tests/server."""
    assert "would start" in desk("serve", "--check").stderr
    assert desk.json("serve", "--check")["problem"] is None


def doctor(desk: Desk) -> None:
    """A line for each finding, or an object. The tests' server runs without fsync, which is a problem: 3."""
    code = 3 if desk.kind == "postgresql" else 0
    assert re.search(r"^ok +schema: it is up to date$", desk("doctor", code=code).stdout, re.MULTILINE)
    found = desk.json("doctor", code=code)
    assert {"name": "schema", "level": "ok", "what": "it is up to date", "remedy": None} in found


def db_upgrade(desk: Desk) -> None:
    """Nothing is left to do; the statements are data."""
    assert desk("db", "upgrade").stderr == "holdfast: the schema is at head\n"
    assert desk.json("db", "upgrade") == {"revision": "head"}
    assert "CREATE TABLE" in desk.json("db", "upgrade", "--sql")["sql"]


def db_check(desk: Desk) -> None:
    """Nothing is wrong."""
    assert desk("db", "check").stderr == "holdfast: the schema is up to date\n"
    assert desk.json("db", "check") == {"problem": None}


def db_backup(desk: Desk) -> None:
    """A path, or what is in it."""
    desk.session()
    path = Path(desk("db", "backup").stdout.strip())
    assert (path / "manifest.json").exists()
    made = desk.json("db", "backup")
    assert (made["kind"], made["rows"]["sessions"] > 0, made["taken_at"][-1]) == (desk.kind, True, "Z")


def db_restore(desk: Desk) -> None:
    """The path of what was there, or what was done."""
    desk.session()
    made = desk.json("db", "backup")["path"]
    assert Path(desk("db", "restore", made, "--yes").stdout.strip()).exists()
    done = desk.json("db", "restore", made, "--yes")
    assert (done["left_out"], done["newer"], Path(done["before"]).exists()) == (0, 0, True)


def db_prune(desk: Desk) -> None:
    """What would go, and what goes."""
    first, second, third = (desk.json("db", "backup")["path"] for _ in range(3))
    would = desk.json("db", "prune", "--keep-days", "0", "--dry-run")
    assert (would["dry_run"], {first, second} <= set(would["removed"]), third in would["kept"]) == (True, True, True)
    assert set(desk("db", "prune", "--keep-days", "0").stdout.split()) == set(would["removed"])


def db_import(desk: Desk) -> None:
    """From a file into either store; from a table in place, and back, on PostgreSQL."""
    source = legacy_file(desk.folder / f"old-{secrets.token_hex(4)}.db", [plain_row(f"session-{secrets.token_hex(8)}")])
    command = ("db", "import", "--from-sqlite", str(source), "--legacy-tz", "UTC")
    assert desk.json(*command, "--dry-run")["rows"] == 1
    done = desk(*command)
    assert "1 rows: 1 exact, 0 repaired, 0 quarantined" in done.stderr
    assert Path(done.stdout.strip()).exists()
    assert desk.json(*command)["new"] == 0
    if desk.kind == "sqlite":
        return
    execute(
        desk.variables["DATABASE_URL"],
        "CREATE SCHEMA app",
        "CREATE TABLE app.sessions (session_id varchar(100) PRIMARY KEY, user_id text, metadata text, "
        "created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, last_activity timestamptz NOT NULL, "
        "request_count integer DEFAULT 0)",
        "INSERT INTO app.sessions VALUES ('session-1', 'u1', '{}', now(), now() + interval '5 hours', now(), 1)",
    )
    aside = Desk(desk.kind, desk.folder, {**desk.variables, "HOLDFAST_SCHEMA": "app"})
    taken = aside.json("db", "import", "--in-place")
    assert (taken["exact"], taken["new"]) == (1, 1)
    assert aside.json("db", "import", "--in-place", "--undo", "--yes") == {"undone": 0}
    assert "1 rows are new" in aside("db", "import", "--in-place").stderr
    assert aside.json("db", "import", "--in-place", "--confirm", "--yes") == {"dropped": 1}
    assert aside.json("sessions", "count") == {"live": 1}


def sessions_create(desk: Desk) -> None:
    """The one command that shows a token."""
    assert re.search(r"^token +hfs_", desk("sessions", "create", "--user", "u2").stdout, re.MULTILINE)
    assert set(desk.json("sessions", "create")) == {"id", "token", "expires_at"}


def sessions_show(desk: Desk) -> None:
    """One session's facts."""
    id = desk.session("shown")
    assert re.search(r"^user_id +shown$", desk("sessions", "show", id).stdout, re.MULTILINE)
    shown = desk.json("sessions", "show", id)
    assert (shown["id"], shown["user_id"], shown["metadata"]) == (id, "shown", {"device": "phone"})


def sessions_list(desk: Desk) -> None:
    """A line for each session under the names of the columns."""
    id = desk.session("listed")
    titles, row = desk("sessions", "list", "--user", "listed").stdout.splitlines()
    assert titles.split() == ["id", "user_id", "created_at", "expires_at", "last_activity", "request_count"]
    assert row.split()[:2] == [id, "listed"]
    assert [each["id"] for each in desk.json("sessions", "list", "--user", "listed")] == [id]


def sessions_extend(desk: Desk) -> None:
    """When it expires now."""
    id = desk.session()
    assert re.search(r"^expires_at +2.*Z$", desk("sessions", "extend", id).stdout, re.MULTILINE)
    assert set(desk.json("sessions", "extend", id, "--hours", "30")) == {"id", "expires_at"}


def sessions_end(desk: Desk) -> None:
    """How many ended; a second time there is none: 3."""
    id, other = desk.session("ended"), desk.session("ended")
    assert desk("sessions", "end", id, "--yes").stdout == "1\n"
    assert desk.json("sessions", "end", "--user", "ended", "--yes") == {"ended": 1}
    assert desk.json("sessions", "end", other, "--yes", code=3) == {"ended": 0}


def sessions_count(desk: Desk) -> None:
    """A number."""
    before = int(desk("sessions", "count").stdout)
    desk.session()
    assert desk.json("sessions", "count") == {"live": before + 1}


def sessions_stats(desk: Desk) -> None:
    """Tables under a line with the totals."""
    desk.session("counted")
    said = desk("sessions", "stats").stdout
    assert re.match(r"[\d,]+ live, [\d,]+ ended and still kept, at 2", said)
    assert re.search(r"^counted +\d", said, re.MULTILINE)
    assert set(desk.json("sessions", "stats")) == {"at", "live", "ended", "hours", "users", "devices", "durations"}


def sessions_cleanup(desk: Desk) -> None:
    """How many were removed."""
    assert desk("sessions", "cleanup").stdout == "0\n"
    assert desk.json("sessions", "cleanup") == {"removed": 0}


ENTRIES: dict[str, Callable[[Desk], None]] = {
    "serve": serve,
    "doctor": doctor,
    "db upgrade": db_upgrade,
    "db check": db_check,
    "db backup": db_backup,
    "db restore": db_restore,
    "db prune": db_prune,
    "db import": db_import,
    "sessions create": sessions_create,
    "sessions show": sessions_show,
    "sessions list": sessions_list,
    "sessions extend": sessions_extend,
    "sessions end": sessions_end,
    "sessions count": sessions_count,
    "sessions stats": sessions_stats,
    "sessions cleanup": sessions_cleanup,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def desk(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Databases,
    template_of: Callable[[Databases], str],
) -> Iterator[Desk]:
    """A store of each kind in turn, for all commands together. Each makes the sessions that it needs."""
    folder = tmp_path_factory.mktemp("desk")
    folder.chmod(0o700)
    variables = {"HOLDFAST_BACKUP_DIRECTORY": str(folder / "backups")}
    if request.param == "sqlite":
        asyncio.run(schema.upgrade(folder / "sessions.db"))
        (folder / "sessions.db").chmod(0o600)
        yield Desk("sqlite", folder, {**variables, "HOLDFAST_SQLITE_PATH": "sessions.db"}, program=True)
        return
    name = f"holdfast_test_{secrets.token_hex(8)}"
    address = postgres.create_database(name, template_of(postgres))
    yield Desk("postgresql", folder, {**variables, "DATABASE_URL": address})
    postgres.drop_database(name)


def test_no_command_is_left_out() -> None:
    """Issue 4: whoever adds a command adds how it is tried."""
    assert set(commands(get_command(app))) == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_command(desk: Desk, name: str) -> None:
    """Issue 4: it does its work on either database, says it to people, and says it in JSON."""
    ENTRIES[name](desk)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_help_of_a_command(name: str, tmp_path: Path) -> None:
    """Issue 4: what it is for, an example that names it, and `--json`."""
    shown = run(*name.split(), "--help", folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    said, _, example = shown.stdout.partition("Example:")
    assert len(said) > 80
    assert f"holdfast {name} " in " ".join(example.split()) + " "
    assert "--json" in example


def test_the_program_itself(tmp_path: Path) -> None:
    """Issue 4: its version, its completion for a shell, and its help, which names every group."""
    assert re.fullmatch(r"holdfast \d+\.\d+\.\S+\n", run_program("--version", folder=tmp_path).stdout)
    asked = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": "holdfast sess", "COMP_CWORD": "1"}
    assert run_program(folder=tmp_path, **asked).stdout.split() == ["sessions"]
    script = run("--show-completion", "bash", folder=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete -o default -F" in script.stdout
    words = run("--help", folder=tmp_path).stdout.split()
    assert {"serve", "doctor", "db", "sessions"} <= set(words)


@pytest.mark.parametrize("desk", ["postgresql"], indirect=True)
def test_addresses_with_a_password_are_shown_without(desk: Desk) -> None:
    """S-70: in no output of any command."""
    parsed = str(parse_address(desk.variables["DATABASE_URL"]))
    password = desk.variables["DATABASE_URL"].partition("://")[2].partition("@")[0].partition(":")[2]
    assert password
    assert password not in parsed
    for command in (("doctor",), ("db", "backup"), ("db", "check"), ("serve", "--check")):
        ran = run(*command, folder=desk.folder, **desk.variables)
        assert password not in ran.stdout + ran.stderr
