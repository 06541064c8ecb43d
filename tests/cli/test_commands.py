"""The command line as its users meet it: exit codes, streams and sentences."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.command import environment, run
from tests.support.fixtures import DatabaseFactory

UNREACHABLE = "postgresql://holdfast:hunter2@127.0.0.1:1/app"
SECRET = "a-secret-of-more-than-thirty-two-characters"


@pytest.mark.parametrize("arguments", [(), ("serve",), ("db",), ("db", "upgrade"), ("db", "check")])
def test_help_is_data(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """`--help` goes to standard output and ends with 0, at every level."""
    shown = run(*arguments, "--help", folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage:" in shown.stdout


@pytest.mark.parametrize("command", [("serve",), ("db", "upgrade"), ("db", "check")])
def test_help_has_an_example(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Every command shows how it is used."""
    assert "Example:" in run(*command, "--help", folder=tmp_path).stdout


@pytest.mark.parametrize("arguments", [(), ("db",), ("sessions",), ("move",)])
def test_what_a_command_does_is_said_whole_in_a_list(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """CLI: on a terminal of 80 columns no sentence breaks off in the list of commands."""
    _, _, commands = run(*arguments, "--help", folder=tmp_path, COLUMNS="80").stdout.partition("Commands:")
    assert commands
    assert "..." not in commands


def test_version(tmp_path: Path) -> None:
    """`--version` names program and version."""
    shown = run("--version", folder=tmp_path)
    assert shown.returncode == 0
    assert shown.stdout.startswith("holdfast ")


def test_the_installed_command_is_the_module(tmp_path: Path) -> None:
    """`holdfast` and `python -m holdfast` are one program."""
    program = shutil.which("holdfast", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("the package is not installed here, only its source is on the path")
    shown = subprocess.run(
        [program, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert shown.stdout == run("--version", folder=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("serve", "--nonsense"),
        ("serve", "--port", "x"),
        ("serve", "--port", "65536"),
        ("db", "nonsense"),
        ("db", "check", "--sqlite", "a", "--postgres", "postgresql://b"),
        ("db", "upgrade", "--sqlite", "a", "--to", "nonsense"),
        ("db", "upgrade", "--sql", "--to", "nonsense"),
    ],
)
def test_mistakes_in_arguments_end_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A wrong argument is a usage error: code 2, nothing on standard output, no traceback."""
    shown = run(*arguments, folder=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--sqlite", "postgresql://u:hunter2@db/app", "goes with --postgres"),
        ("--sqlite", "sqlite:///sessions.db", "takes the path"),
        ("--postgres", "localhost", "postgresql://"),
        ("--postgres", "mysql://u:hunter2@db/app", "postgresql://"),
        ("--postgres", "sqlite:///sessions.db", "postgresql://"),
    ],
)
def test_a_database_under_the_wrong_option_is_a_mistake(tmp_path: Path, option: str, value: str, says: str) -> None:
    """S-70: code 2 before anything is made, a folder named by a password above all; the value is not repeated."""
    for command in (("db", "upgrade"), ("move", "status"), ("serve", "--check")):
        shown = run(*command, option, value, folder=tmp_path)
        assert (shown.returncode, shown.stdout) == (2, ""), command
        assert says in " ".join(shown.stderr.split())
        assert "hunter2" not in shown.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (("serve", "--host", "0.0.0.0"), {}, "HOLDFAST_APP_TOKEN and HOLDFAST_ADMIN_TOKEN are not set"),
        (("serve", "--host", "::"), {}, "HOLDFAST_APP_TOKEN and HOLDFAST_ADMIN_TOKEN are not set"),
        (("serve",), {"HOLDFAST_HOST": "0.0.0.0", "HOLDFAST_APP_TOKEN": SECRET}, "HOLDFAST_ADMIN_TOKEN is not set"),
        (("serve",), {"HOLDFAST_HOST": "192.0.2.1", "HOLDFAST_ADMIN_TOKEN": SECRET}, "HOLDFAST_APP_TOKEN is not set"),
        (("serve", "--dev", "--host", "0.0.0.0"), {}, "loopback only"),
        (("serve",), {"HOLDFAST_PROT": "1"}, "did you mean HOLDFAST_PORT"),
        (("serve",), {"HOLDFAST_APP_TOKEN": "hunter2"}, "at least 32"),
        (("db", "check"), {"DATABASE_URL": UNREACHABLE, "HOLDFAST_SQLITE_PATH": "x"}, "--sqlite or --postgres"),
        (("serve",), {"DATABASE_URL": "mysql://u:hunter2@db/x"}, ""),
        (("db", "check"), {"DATABASE_URL": UNREACHABLE}, "not available"),
        (("db", "check", "--postgres", UNREACHABLE), {}, "not available"),
        (("db", "upgrade"), {"DATABASE_URL": UNREACHABLE}, "not available"),
    ],
)
def test_refusals_end_with_4_and_no_secret(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], sentence: str
) -> None:
    """S-66, S-70: refused or unavailable is code 4 with a sentence, and shows no password and no traceback."""
    shown = run(*arguments, folder=tmp_path, **settings)
    assert (shown.returncode, shown.stdout) == (4, "")
    assert shown.stderr.startswith("holdfast: ")
    assert sentence in shown.stderr
    for secret in ("hunter2", SECRET, "Traceback"):
        assert secret not in shown.stderr


def test_the_schema_is_upgraded_and_checked(tmp_path: Path) -> None:
    """`db check` says 3 before the first upgrade and 0 after it, in words and in JSON."""
    file = ("--sqlite", "sessions.db")
    missing = run("db", "check", *file, folder=tmp_path)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "db upgrade" in missing.stderr
    as_json = run("db", "check", *file, "--json", folder=tmp_path)
    assert as_json.returncode == 3
    assert "db upgrade" in json.loads(as_json.stdout)["problem"]
    assert run("db", "upgrade", *file, folder=tmp_path).returncode == 0
    good = run("db", "check", *file, "--json", folder=tmp_path)
    assert (good.returncode, json.loads(good.stdout)) == (0, {"problem": None})
    again = run("db", "upgrade", *file, "--json", folder=tmp_path)
    assert (again.returncode, json.loads(again.stdout)) == (0, {"revision": "head"})


def test_a_database_that_does_not_let_us_look_is_no_difference(
    tmp_path: Path, postgres_database: DatabaseFactory
) -> None:
    """A wrong password and a database that is not there are refusals: 4. Tables that are not there are 3."""
    address = postgres_database()
    assert run("db", "check", folder=tmp_path, DATABASE_URL=address).returncode == 3
    wrong = urlsplit(address)
    for changed in (
        wrong._replace(netloc=f"{wrong.username}:hunter2@{wrong.hostname}:{wrong.port}").geturl(),
        wrong._replace(path="/no_such_database").geturl(),
    ):
        shown = run("db", "check", "--json", folder=tmp_path, DATABASE_URL=changed)
        assert (shown.returncode, shown.stdout) == (4, ""), shown.stderr
        assert "hunter2" not in shown.stderr


def test_the_schema_is_printed_as_sql(tmp_path: Path) -> None:
    """`db upgrade --sql` prints the statements, and connects to nothing."""
    shown = run("db", "upgrade", "--sql", folder=tmp_path, DATABASE_URL=UNREACHABLE)
    assert shown.returncode == 0
    assert "CREATE TABLE" in shown.stdout
    assert "hunter2" not in shown.stdout + shown.stderr


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    """`.env` in the current folder is read by commands; the environment counts more."""
    (tmp_path / ".env").write_text("HOLDFAST_SQLITE_PATH=from-file.db\nOTHER=${NOTHING}\n")
    run("db", "upgrade", folder=tmp_path)
    assert (tmp_path / "from-file.db").exists()
    run("db", "upgrade", folder=tmp_path, HOLDFAST_SQLITE_PATH="from-environment.db")
    assert (tmp_path / "from-environment.db").exists()


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("typer", "--help", "cli"), ("uvicorn", "serve", "server")],
)
def test_a_missing_extra_is_one_sentence(tmp_path: Path, missing: str, arguments: str, extra: str) -> None:
    """Without a package that a command needs, one sentence says what to install."""
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['holdfast', {arguments!r}]\n"
    program += "from holdfast.cli.main import main\nmain()\n"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert shown.stderr == (
        f"holdfast: {'the command line' if missing == 'typer' else 'the server'} needs the package {missing}; "
        f"install Holdfast with the extra `{extra}`\n"
    )
