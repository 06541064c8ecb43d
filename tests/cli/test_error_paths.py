"""What goes wrong, met by the commands: the exit code, one sentence that says what to do, no secret, nothing lost."""

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from holdfast import SessionManager
from holdfast.sql import schema
from tests.cli.command import run_limited
from tests.conftest import MigratedDatabases
from tests.imports.conftest import legacy_file, plain_row
from tests.support import binaries
from tests.support.admin import Databases, execute, with_database, with_login, with_place
from tests.support.fixtures import DatabaseFactory

SECRET = "hunter2"
NOBODY = 65_534
IMPORT = ("db", "import", "--from-sqlite", "old.db", "--legacy-tz", "UTC")
COMMANDS = (
    ("db", "check"),
    ("db", "upgrade"),
    ("db", "backup"),
    ("sessions", "count"),
    ("sessions", "create"),
    ("serve", "--check"),
    IMPORT,
)
Command = tuple[str, ...]


class Bench:
    """A folder with an application's file in it, from which commands meet a store in trouble."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backups = folder / "backups"
        self.token = "session-secret"
        legacy_file(folder / "old.db", [plain_row(self.token)])
        self.limit: int | None = None
        self.user: int | None = None
        self.more: dict[str, str] = {}

    def run(self, store: str | Path, *command: str) -> CompletedProcess[str]:
        """Run a command on a store."""
        address = str(store)
        variables = {
            "DATABASE_URL" if "://" in address else "HOLDFAST_SQLITE_PATH": address,
            "HOLDFAST_BACKUP_DIRECTORY": str(self.backups),
            "HOLDFAST_DEADLINE_SECONDS": "0.5",
            **self.more,
        }
        ran = run_limited(*command, folder=self.folder, variables=variables, limit=self.limit, user=self.user)
        said = ran.stdout + ran.stderr
        assert "Traceback" not in said, said
        assert SECRET not in said
        assert self.token not in said
        return ran

    def refused(self, store: str | Path, says: str, commands: Sequence[Command] = COMMANDS, code: int = 4) -> None:
        """Each of these commands ends with this code and one sentence; `db check` may find a difference instead."""
        for command in commands:
            ran = self.run(store, *command)
            assert ran.returncode == code or (command[:2] == ("db", "check") and ran.returncode == 3), (command, ran)
            assert ran.stdout == "", command
            assert ran.stderr.startswith("holdfast: "), (command, ran.stderr)
            assert ran.stderr.count("\n") == 1, (command, ran.stderr)
            assert len(ran.stderr) < 500, (command, ran.stderr)
            assert says in ran.stderr, (command, ran.stderr)

    def doctor(self, store: str | Path, says: str, code: int = 3) -> None:
        """The doctor finds it too, with a remedy; its findings are data."""
        ran = self.run(store, "doctor")
        assert (ran.returncode, ran.stderr) == (code, ""), ran
        findings = json.loads(self.run(store, "doctor", "--json").stdout)
        grave = [each for each in findings if each["level"] == "problem" and says in each["what"]]
        assert grave, (says, findings)
        assert all(each["remedy"] for each in grave)
        assert says in ran.stdout

    def backup_of(self, store: str | Path) -> str:
        """The path of a backup that is made now."""
        return str(json.loads(self.run(store, "db", "backup", "--json").stdout)["path"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder of the test's own."""
    return Bench(tmp_path)


def sqlite_store(path: Path) -> Path:
    """A store in a file with one live session."""

    async def fill() -> None:
        async with SessionManager(path, sweep_interval=None) as sessions:
            await sessions.create_session("u1")

    asyncio.run(fill())
    return path


def count(path: Path) -> int:
    """How many sessions a file holds, past Holdfast."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


def change(path: Path, statement: str) -> None:
    """Change a file past Holdfast."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statement)


# PostgreSQL

ADDRESSES: dict[str, tuple[Callable[[str], str], str]] = {
    "another product": (lambda _: f"mysql://u:{SECRET}@db/app", "use sqlite:///path/to/file or postgresql://"),
    "a port that is none": (lambda _: f"postgresql://u:{SECRET}@db:x/app", "is not a number from 1 to 65535"),
    "an unknown host": (
        lambda _: f"postgresql://u:{SECRET}@no-such.invalid/app",
        "does not resolve; check the address",
    ),
    "nobody there": (
        lambda address: with_place(with_login(address, "holdfast", SECRET), "127.0.0.1", 1),
        "nobody listens there; check host and port, and whether the server runs",
    ),
    "a wrong password": (lambda address: with_login(address, "holdfast", SECRET), "the password is wrong; check"),
    "no database": (
        lambda address: with_database(address, "nowhere"),
        "there is no such database; create it, or correct the address",
    ),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_database_that_cannot_be_asked(name: str, bench: Bench, migrated_database: MigratedDatabases) -> None:
    """S-70: refused or unavailable, with the part of the address to look at; the doctor says the same."""
    wrong, says = ADDRESSES[name]
    address = wrong(migrated_database(None))
    bench.refused(address, says, COMMANDS if "://holdfast" in address else COMMANDS[:3])
    misspelt = name in ("another product", "a port that is none")
    bench.doctor(address, says, 3 if misspelt else 4)
    assert sorted(each.name for each in bench.folder.iterdir()) in (["old.db"], ["backups", "old.db"])


@pytest.fixture
def restricted(
    migrated_database: MigratedDatabases, postgres: Databases
) -> Iterator[tuple[str, str, Callable[[str], object]]]:
    """A database, the address of a role that may do nothing there, and how to grant it something."""
    address = migrated_database(None)
    name = address.rpartition("/")[2]
    role_address = postgres.restricted_role(name, "public")
    role = role_address.partition("://")[2].partition(":")[0]
    execute(address, f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{role}"')
    yield address, role_address, lambda what: execute(address, f'GRANT {what} TO "{role}"')
    postgres.drop_role(role_address, name)


def test_a_role_without_privileges(restricted: tuple[str, str, Callable[[str], object]], bench: Bench) -> None:
    """S-74: none, only to read, and to serve but not to restore: each says that a privilege is missing."""
    owner, address, grant = restricted
    lacks = "lacks a privilege; grant it"
    bench.refused(address, lacks)
    bench.doctor(address, "SELECT, INSERT, UPDATE, DELETE missing")
    grant("SELECT ON ALL TABLES IN SCHEMA public")
    bench.refused(address, lacks, [("sessions", "create"), IMPORT])
    made = bench.backup_of(address)
    grant("INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    bench.refused(address, lacks, [("db", "restore", made, "--yes")])
    assert bench.run(owner, "db", "restore", made, "--yes").returncode == 0


def test_a_database_in_which_nobody_may_make_tables(
    postgres_database: DatabaseFactory, postgres: Databases, bench: Bench
) -> None:
    """S-74: the upgrade needs the owner; whoever only serves is told to wait for that."""
    name = postgres_database().rpartition("/")[2]
    address = postgres.restricted_role(name, "public")
    try:
        bench.refused(address, "run `holdfast db upgrade`", [each for each in COMMANDS if each != ("db", "backup")])
        bench.refused(address, "check the address and HOLDFAST_SCHEMA", [("db", "backup")])
        bench.doctor(address, "run `holdfast db upgrade`")
    finally:
        postgres.drop_role(address, name)


def test_a_table_of_an_applications_own(
    postgres_database: DatabaseFactory, migrated_database: MigratedDatabases, bench: Bench
) -> None:
    """PRODUCT 3: it is not touched, by a restore neither, and the answer names the import."""
    address = postgres_database()
    execute(address, "CREATE TABLE sessions (id int, what text)", "INSERT INTO sessions VALUES (1, 'mine')")
    made = bench.backup_of(migrated_database(None))
    others = [each for each in COMMANDS if each != ("db", "backup")]
    bench.refused(address, "`holdfast db import --in-place`", [*others, ("db", "restore", made, "--yes")])
    bench.refused(address, "nothing to back up", [("db", "backup")])
    bench.refused(address, "no table `sessions` in the legacy form", [("db", "import", "--in-place")])
    bench.doctor(address, "is not Holdfast's")
    assert "ALTER TABLE" not in bench.run(address, "doctor").stdout
    assert execute(address, "SELECT * FROM sessions") == [[1, "mine"]]


def test_tables_of_another_version_in_postgresql(migrated_database: MigratedDatabases, bench: Bench) -> None:
    """Newer ones need that version, older ones the upgrade; a backup can be taken of both."""
    address = migrated_database(None)
    made = bench.backup_of(address)
    writing = [each for each in COMMANDS if each[1] not in ("backup", "upgrade")]
    for revision, says in (("9999", "install that version"), ("0001", "run `holdfast db upgrade`")):
        execute(address, f"UPDATE holdfast_version SET version_num = '{revision}'")
        bench.refused(address, says, [*writing, ("db", "restore", made, "--yes")])
        bench.doctor(address, says)
        assert bench.backup_of(address)
    execute(address, "UPDATE holdfast_version SET version_num = '9999'")
    bench.refused(address, "install that version", [("db", "upgrade")])


async def test_of_two_stores_the_one_to_upgrade_is_said(bench: Bench, postgres_database: DatabaseFactory) -> None:
    """Where both are named, `db upgrade` has to be told which: what is said is the command that works."""
    # Time for a busy machine: a store that has not answered yet is said to be away.
    bench.more = {"DATABASE_URL": postgres_database(), "HOLDFAST_DEADLINE_SECONDS": "5"}
    await schema.upgrade(bench.folder / "sessions.db")
    commands = (("move", "plan"), ("move", "status"), ("move", "start"), ("sessions", "count"), ("serve", "--check"))
    for command in commands:
        ran = bench.run("sessions.db", *command)
        assert ran.returncode == 4, (command, ran)
        assert "run `holdfast db upgrade --postgres ADDRESS`" in ran.stderr, (command, ran)
    assert bench.run("sessions.db", "db", "upgrade", "--postgres", bench.more["DATABASE_URL"]).returncode == 0
    change(bench.folder / "sessions.db", "UPDATE holdfast_version SET version_num = '0001'")
    for command in (("move", "plan"), ("sessions", "count")):
        ran = bench.run("sessions.db", *command)
        assert ran.returncode == 4, (command, ran)
        assert "run `holdfast db upgrade --sqlite FILE`" in ran.stderr, (command, ran)


def test_a_table_that_somebody_keeps_locked(migrated_database: MigratedDatabases, bench: Bench) -> None:
    """F-12: a command gives up at its deadline, and says where to look."""
    address = migrated_database(None)

    async def meanwhile() -> None:
        import asyncpg

        connection = await asyncpg.connect(address)
        try:
            await connection.execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            for command in (("sessions", "count"), ("sessions", "create")):
                await asyncio.to_thread(bench.refused, address, "PostgreSQL at", [command])
        finally:
            connection.terminate()

    asyncio.run(meanwhile())
    assert bench.run(address, "sessions", "count").stdout == "0\n"


# SQLite


def test_a_path_with_a_mistake_in_it(bench: Bench) -> None:
    """No file is made by what only looks, nor by a revision that there is not."""
    looking = [("db", "backup"), *(("sessions", each) for each in ("count", "list", "stats", "cleanup"))]
    bench.refused("typo.db", "check the path", looking)
    bench.refused("typo.db", "run `holdfast db upgrade`", [("db", "check")])
    bench.refused("typo.db", "is no revision", [("db", "upgrade", "--to", "nonsense")], code=2)
    bench.refused("no/such/typo.db", "check the path", looking)
    assert bench.run("typo.db", "doctor").returncode == 0
    assert [each.name for each in bench.folder.iterdir()] == ["old.db"]


def test_a_path_of_which_nothing_is_there(bench: Bench) -> None:
    """An import says that there is no such file; a prune that finds no directory says so, and has nothing to do."""
    bench.refused("new.db", "there is no file gone.db", [("db", "import", "--from-sqlite", "gone.db")])
    pruned = bench.run("new.db", "db", "prune", "--directory", "gone")
    assert (pruned.returncode, pruned.stdout) == (0, "")
    assert "there is no directory gone yet" in pruned.stderr


def test_what_is_no_file(bench: Bench) -> None:
    """A directory, and a link to a file."""
    (bench.folder / "a.directory").mkdir()
    store = sqlite_store(bench.folder / "sessions.db")
    (bench.folder / "a.link").symlink_to(store)
    bench.refused("a.directory", "give the path of a SQLite file")
    bench.doctor("a.directory", "is not a file", 4)
    bench.refused("a.link", "give the path of the file itself")
    bench.doctor("a.link", "is a symbolic link", 4)
    bench.refused(store / "below.db", "heck the path", [each for each in COMMANDS if each != ("db", "check")])
    assert count(store) == 1


def test_a_damaged_file(bench: Bench) -> None:
    """F-48: one that is no database, and one whose pages are lost; a restore puts it aside and replaces it."""
    store = sqlite_store(bench.folder / "sessions.db")
    made = bench.backup_of(store)
    garbage, pages = bench.folder / "garbage.db", bench.folder / "pages.db"
    garbage.write_bytes(b"GIF89a" + bytes(range(256)) * 64)
    whole = Path(made, "sessions.db").read_bytes()
    pages.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    for path in (garbage, pages):
        path.chmod(0o600)
        before = path.read_bytes()
        bench.refused(path, "restore a backup, or try `sqlite3 FILE .recover`")
        bench.doctor(path, "is damaged")
        assert path.read_bytes() == before
    done = json.loads(bench.run(pages, "db", "restore", made, "--yes", "--json").stdout)
    assert done["brought_back_ended"] == 1
    assert Path(done["aside"][0]).read_bytes() == before
    assert bench.run(pages, "sessions", "count").stdout == "0\n"


def test_a_move_of_a_damaged_file(bench: Bench, migrated_database: MigratedDatabases) -> None:
    """Where the tables look fit and the authority cannot be read, the commands of a move say so too."""
    path = sqlite_store(bench.folder / "sessions.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'holdfast_control'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(b"\xff" * page)
    bench.more = {"DATABASE_URL": migrated_database(None)}
    commands = [("move", *each) for each in (("start",), ("cutover",), ("verify",), ("rollback",), ("status",))]
    bench.refused("sessions.db", "the SQLite file cannot be used: the file is damaged", commands)


def test_a_damaged_backup(bench: Bench) -> None:
    """Issue 4: it is refused, and the store is as it was."""
    store = sqlite_store(bench.folder / "sessions.db")
    made = Path(bench.backup_of(store))
    data = bytearray((made / "sessions.db").read_bytes())
    data[len(data) // 2] ^= 1
    (made / "sessions.db").write_bytes(data)
    bench.refused(store, "is damaged", [("db", "restore", str(made), "--yes")])
    bench.refused(store, "no manifest", [("db", "restore", str(bench.folder), "--yes")])
    bench.refused(store, "there is no backup", [("db", "restore", "nowhere", "--yes")], code=3)
    assert (made.name in bench.run(store, "db", "prune").stderr, made.exists()) == (True, True)
    assert count(store) == 1


def test_a_legacy_file(bench: Bench) -> None:
    """PRODUCT 3: it has no schema of ours, and both ways to go on are named; everything else serves it."""
    path = bench.folder / "old.db"
    native = sqlite_store(bench.folder / "sessions.db")
    made = bench.backup_of(native)
    before = path.read_bytes()
    bench.refused(path, "Holdfast serves it in place", [("db", "check"), ("db", "upgrade")])
    bench.refused(path, "`holdfast db import --from-sqlite", [("db", "check"), ("db", "upgrade")])
    bench.refused(path, "not a Holdfast store", [("db", "restore", made, "--yes")])
    assert path.read_bytes() == before
    for command in (("sessions", "count"), ("sessions", "list"), ("db", "backup"), ("serve", "--check")):
        assert bench.run(path, *command).returncode == 0


def test_a_file_with_tables_of_another_program(bench: Bench) -> None:
    """It is not touched."""
    path = bench.folder / "other.db"
    change(path, "CREATE TABLE sessions (a); INSERT INTO sessions VALUES (1)")
    path.chmod(0o600)
    made, before = bench.backup_of(sqlite_store(bench.folder / "sessions.db")), path.read_bytes()
    bench.refused(path, "is not Holdfast's", [each for each in COMMANDS if each != ("db", "backup")])
    bench.refused(path, "is not a Holdfast store", [("db", "restore", made, "--yes")])
    bench.doctor(path, "is not Holdfast's")
    assert path.read_bytes() == before


def test_a_file_of_another_version(bench: Bench) -> None:
    """A newer one needs that version; an older one is not changed by a look at it."""
    store = sqlite_store(bench.folder / "sessions.db")
    made = bench.backup_of(store)
    change(store, "UPDATE holdfast_version SET version_num = '9999'")
    others = [each for each in COMMANDS if each != ("db", "backup")]
    bench.refused(store, "install that version", [*others, ("db", "restore", made, "--yes")])
    bench.doctor(store, "install that version")
    change(store, "UPDATE holdfast_version SET version_num = '0001'")
    bench.refused(store, "run `holdfast db upgrade`", [("db", "check"), ("sessions", "count"), ("sessions", "create")])
    assert count(store) == 1


def test_a_file_that_another_program_keeps_locked(bench: Bench) -> None:
    """F-45: what writes gives up at its deadline; what only reads goes on."""
    store = sqlite_store(bench.folder / "sessions.db")
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bench.more = {"HOLDFAST_DEADLINE_SECONDS": "2"}
        bench.refused(store, "SQLite file", [("sessions", "create"), IMPORT])
        assert bench.run(store, "db", "check").returncode == 0
        assert bench.backup_of(store)
    assert bench.run(store, "sessions", "count").stdout == "1\n"


def test_a_disk_that_takes_no_more(bench: Bench) -> None:
    """F-46: no half file that a later command would trust, and the store is as it was."""
    store = sqlite_store(bench.folder / "sessions.db")
    made = bench.backup_of(store)
    bench.limit = 40_000
    bench.refused(store, "free some space, or give", [("db", "backup"), ("db", "restore", made, "--yes")])
    space = "free space"
    bench.refused("new.db", space, [("db", "upgrade")])
    bench.refused("newer.db", space, [("sessions", "create")])
    bench.limit = None
    assert [each.name for each in bench.backups.iterdir()] == [Path(made).name]
    assert count(store) == 1
    for path in ("new.db", "newer.db"):
        assert bench.run(path, "db", "upgrade").returncode == 0
        assert bench.run(path, "sessions", "create").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as somebody else")
@pytest.mark.parametrize("what", ["file", "directory", "closed directory"])
def test_a_place_without_rights(what: str) -> None:
    """F-47: what to check, before anything is written; the doctor and a check of the start say so too."""
    folder = binaries.scratch() / f"no-rights-{what.replace(' ', '-')}-{os.getpid()}"
    folder.mkdir()
    try:
        store = sqlite_store(folder / "sessions.db")
        bench = Bench(folder)
        bench.user, bench.folder, bench.backups = NOBODY, binaries.scratch(), folder / "backups"
        for each in (folder, *folder.iterdir()):
            os.chown(each, NOBODY, NOBODY)
        if what == "file":
            store.chmod(0o400)
        else:
            folder.chmod(0o500 if what == "directory" else 0o000)
        bench.refused(store, str(store), [("sessions", "create"), ("sessions", "count")])
        bench.refused(store, "give this user", [("serve", "--check")]) if what != "closed directory" else None
        if what != "file":
            bench.refused(folder / "new.db", "check the path", [("db", "upgrade"), ("sessions", "create")])
            bench.refused(store, "check", [("db", "backup")])
        bench.doctor(store, "this user may", 3 if what == "file" else 4)
        if what == "file":
            # By whichever way it is named: an option is no mistake because of it.
            store.chmod(0)
            count_it = ("sessions", "count")
            bench.refused(store, str(store), [count_it, (*count_it, "--sqlite", str(store)), ("db", "check")])
        folder.chmod(0o700)
        assert count(store) == 1
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


# Around the store


def test_a_directory_of_backups_that_is_none(bench: Bench) -> None:
    """A file in its place, and one that others may change: neither is written to, nor anything removed there."""
    store = sqlite_store(bench.folder / "sessions.db")
    bench.backups = bench.folder / "old.db"
    bench.refused(store, "is not a directory; give another one", [("db", "backup"), ("db", "prune")])
    bench.backups = bench.folder / "open"
    bench.backups.mkdir()
    bench.backups.chmod(0o777)
    bench.refused(store, "chmod go-w", [("db", "backup"), ("db", "prune")])


def test_settings_that_are_wrong(bench: Bench) -> None:
    """The variable is named, and its value is not."""
    for variables, says in (
        ({"HOLDFAST_PROT": "1"}, "did you mean HOLDFAST_PORT"),
        ({"HOLDFAST_APP_TOKEN": SECRET}, "at least 32"),
        ({"HOLDFAST_APP_TOKEN_FILE": "/nowhere"}, "names a file that cannot be read"),
        ({"SESSION_DB_TYPE": "postgresql"}, "set it, or set SESSION_DB_TYPE=sqlite"),
    ):
        bench.more = variables
        bench.refused("typo.db", says, [each for each in COMMANDS if each != ("db", "check")])
        bench.doctor("typo.db", says)
    assert [each.name for each in bench.folder.iterdir()] == ["old.db"]


def test_a_file_of_settings_that_is_no_text(bench: Bench) -> None:
    """It is named; the numbers of a prune have a bound."""
    (bench.folder / ".env").write_bytes(b"\xff\xfe=1")
    bench.refused("typo.db", ".env in this folder is not UTF-8")
    (bench.folder / ".env").unlink()
    assert bench.run("typo.db", "db", "prune", "--keep-days", "1e300").returncode == 2


def test_an_upgrade_takes_nothing_back(bench: Bench) -> None:
    """To an older revision than the tables have there is no upgrade, and nothing says there was."""
    assert bench.run("new.db", "db", "upgrade", "--to", "0001").returncode == 0
    bench.refused("new.db", "run `holdfast db upgrade`", [("db", "check")], code=3)
    assert bench.run("new.db", "db", "upgrade").returncode == 0
    bench.refused("new.db", "an upgrade takes nothing back", [("db", "upgrade", "--to", "0001")])


def test_two_stores_of_which_either_could_serve(bench: Bench, migrated_database: MigratedDatabases) -> None:
    """PRODUCT 3: a contradiction refuses to start, and so do its check and the commands; which one is said decides."""
    store = sqlite_store(bench.folder / "sessions.db")
    # Half a second is too short for both to be open on a busy machine; one that is not claims nothing.
    bench.more = {"HOLDFAST_SQLITE_PATH": str(store), "HOLDFAST_DEADLINE_SECONDS": "10"}
    address = migrated_database(None)
    bench.refused(address, "SESSION_DB_TYPE", [("serve", "--check"), ("sessions", "count"), ("sessions", "create")])
    bench.refused(address, "with --sqlite or --postgres", [("db", "check"), ("db", "upgrade"), ("db", "backup")])
    bench.more |= {"SESSION_DB_TYPE": "sqlite"}
    assert bench.run(address, "sessions", "count").stdout == "1\n"
    assert bench.run(address, "serve", "--check").returncode == 0
    assert bench.run(address, "db", "check", "--sqlite", str(store)).returncode == 0


def test_a_store_that_has_been_left(bench: Bench) -> None:
    """Promise 8: whatever would write to it is refused, and nothing is written."""
    store = sqlite_store(bench.folder / "sessions.db")
    made = bench.backup_of(store)
    change(store, "UPDATE holdfast_control SET authority = 'there'")
    bench.refused(store, "holds the authority", [("sessions", "create"), ("db", "restore", made, "--yes"), IMPORT])
    assert count(store) == 1


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_start_on_a_store_that_does_not_serve(
    database: str, bench: Bench, migrated_database: MigratedDatabases
) -> None:
    """PRODUCT 3: `serve --check` and `doctor` say what /readyz would, while a move is under way and after it."""
    store: str | Path = sqlite_store(bench.folder / "sessions.db") if database == "sqlite" else migrated_database(None)

    def do(statement: str) -> None:
        change(store, statement) if isinstance(store, Path) else execute(store, statement)

    assert "authority: this store has it" in bench.run(store, "doctor").stdout
    for done, sentence in (
        ("UPDATE holdfast_control SET authority = 'there'", "or only the one that holds it"),
        ("CREATE TABLE holdfast_move (id integer)", "a move between the two is under way"),
    ):
        do(done)
        bench.refused(store, sentence, [("serve", "--check")])
        found = bench.run(store, "doctor", "--json")
        (said,) = [each for each in json.loads(found.stdout) if each["name"] == "authority"]
        assert (found.returncode, said["level"]) == (3, "problem")
        assert sentence in f"{said['what']}; {said['remedy']}"


def test_a_start_on_a_file_of_before_there_were_moves(bench: Bench) -> None:
    """An application's own file, served or not yet served: nobody can have left it."""
    assert bench.run(bench.folder / "old.db", "serve", "--check").returncode == 0
    change(bench.folder / "old.db", "CREATE TABLE holdfast_control (id integer)")
    assert bench.run(bench.folder / "old.db", "serve", "--check").returncode == 0
