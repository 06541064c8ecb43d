"""From environments to settings."""

import dataclasses
import os
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

import pytest

from holdfast.memory import MemoryStore
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.store import TwoStores
from holdfast.settings import Settings, process_environment, reference
from holdfast.settings.reference import PAGE

POSTGRES = "postgresql://holdfast:hunter2@db/app"
SECRET = "a-secret-of-more-than-thirty-two-characters"
ROOT = Path(__file__).resolve().parents[2]
VARIABLES = [column.metadata["variable"] for column in dataclasses.fields(Settings)]


def read(**environment: str) -> Settings:
    """Settings from just these variables."""
    return Settings.from_environment(environment)


def test_nothing_set_means_sqlite() -> None:
    """An empty environment gives the defaults, over data/sessions.db."""
    settings = read()
    assert settings == Settings()
    assert settings.address() == Path("data/sessions.db")


def test_an_empty_variable_is_not_set() -> None:
    """Variables left empty, as compose files do, count as missing."""
    assert Settings.from_environment({variable.name: "" for variable in VARIABLES}) == Settings()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"DATABASE_URL": POSTGRES}, POSTGRES),
        ({"DATABASE_URL": "sqlite:///x.db"}, "sqlite:///x.db"),
        ({"DATABASE_URL": "sqlite:///x.db", "SESSION_DB_TYPE": "sqlite"}, "sqlite:///x.db"),
        ({"HOLDFAST_SQLITE_PATH": "x.db"}, Path("x.db")),
        ({"DATABASE_URL": POSTGRES, "SESSION_DB_TYPE": "PostgreSQL"}, POSTGRES),
        ({"DATABASE_URL": POSTGRES, "SESSION_DB_TYPE": "sqlite"}, Path("data/sessions.db")),
    ],
)
def test_the_address_follows_from_what_is_set(environment: dict[str, str], expected: str | Path) -> None:
    """One store is named, and serves."""
    settings = read(**environment)
    assert settings.address() == expected
    assert settings.stores() == expected


@pytest.mark.parametrize("preferred", ["sqlite", "postgresql", None])
def test_both_stores_may_be_named(preferred: Literal["sqlite", "postgresql"] | None) -> None:
    """With a file and PostgreSQL both are used; SESSION_DB_TYPE only says which serves before any move."""
    named = {"DATABASE_URL": POSTGRES, "HOLDFAST_SQLITE_PATH": "x.db"}
    settings = read(**named, **({} if preferred is None else {"SESSION_DB_TYPE": preferred}))
    assert settings.stores() == TwoStores(Path("x.db"), POSTGRES, preferred=preferred)
    assert "hunter2" not in repr(settings.stores())
    with pytest.raises(InvalidArgument, match="--sqlite or --postgres") as refusal:
        settings.address()
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({"SESSION_DB_TYPE": "postgresql"}, "DATABASE_URL"),
        ({"SESSION_DB_TYPE": "postgresql", "HOLDFAST_SQLITE_PATH": "x.db"}, "DATABASE_URL"),
        ({"SESSION_DB_TYPE": "postgresql", "DATABASE_URL": "sqlite:///x.db"}, "SESSION_DB_TYPE=sqlite"),
        ({"DATABASE_URL": "sqlite:///x.db", "HOLDFAST_SQLITE_PATH": "y.db"}, "unset one"),
        ({"HOLDFAST_APP_TOKEN": SECRET, "HOLDFAST_ADMIN_TOKEN": SECRET}, "must differ"),
        ({"HOLDFAST_APP_TOKEN": SECRET, "HOLDFAST_APP_TOKEN_FILE": "x"}, "unset one"),
        ({"DATABASE_URL_FILE": "x", "HOLDFAST_DATABASE_URL_FILE": "y"}, "unset one"),
    ],
)
def test_contradictions_are_refused_with_advice(environment: dict[str, str], advice: str) -> None:
    """What cannot be meant is refused, with what to do and without a value."""
    with pytest.raises(InvalidArgument, match=advice) as refusal:
        read(**environment)
    assert "hunter2" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgresql://u:hunter2\x00@db"),
        ("SESSION_DB_TYPE", "hunter2"),
        ("HOLDFAST_SCHEMA", 'public"; DROP SCHEMA hunter2'),
        ("HOLDFAST_SCHEMA", "x" * 64),
        ("HOLDFAST_SCHEMA", "schéma"),
        ("HOLDFAST_SESSION_TTL_HOURS", "0"),
        ("HOLDFAST_SESSION_TTL_HOURS", "nan"),
        ("HOLDFAST_SESSION_TTL_HOURS", "inf"),
        ("HOLDFAST_SESSION_TTL_HOURS", "hunter2"),
        ("HOLDFAST_ROTATION_GRACE_SECONDS", "31"),
        ("HOLDFAST_CONNECTIONS", "2.5"),
        ("HOLDFAST_CONNECTIONS", "9" * 5000),
        ("HOLDFAST_PORT", "65536"),
        ("HOLDFAST_POOLED", "hunter2"),
        ("HOLDFAST_APP_TOKEN", "hunter2"),
        ("HOLDFAST_APP_TOKEN", "x" * 31),
        ("HOLDFAST_APP_TOKEN", f"{SECRET},hunter2"),
        ("HOLDFAST_APP_TOKEN", f"{SECRET}1,{SECRET}2,{SECRET}3"),
        ("HOLDFAST_APP_TOKEN", f"{SECRET} hunter2 with blanks"),
        ("HOLDFAST_TRUSTED_PROXIES", "hunter2"),
        ("HOLDFAST_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("HOLDFAST_LOG_LEVEL", "hunter2"),
        ("HOLDFAST_MAX_BODY_BYTES", "-1"),
        ("HOLDFAST_COOKIE_NAME", "hunter2;"),
        ("HOLDFAST_COOKIE_NAME", "x" * 129),
        ("HOLDFAST_COOKIE_SAME_SITE", "none"),
        ("HOLDFAST_COOKIE_INSECURE", "hunter2"),
        ("HOLDFAST_ALLOWED_ORIGINS", "*"),
        ("HOLDFAST_ALLOWED_ORIGINS", "null"),
        ("HOLDFAST_ALLOWED_ORIGINS", "hunter2.example"),
        ("HOLDFAST_ALLOWED_ORIGINS", "https://a.test,,https://hunter2.test"),
        ("HOLDFAST_ALLOWED_ORIGINS", "https://a.test https://hunter2.test"),
    ],
)
def test_a_bad_value_is_named_and_never_repeated(name: str, text: str) -> None:
    """S-56, S-70: the error names the variable and what is allowed, and holds nothing of the value."""
    with pytest.raises(InvalidArgument) as refusal:
        Settings.from_environment({name: text})
    message = str(refusal.value)
    (variable,) = (each for each in VARIABLES if each.name == name)
    assert name in message
    assert variable.kind.allowed in message
    assert "hunter2" not in message
    assert SECRET not in message
    # A traceback shows causes too.
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_values_become_what_they_mean() -> None:
    """Numbers, flags, words, networks and pairs of credentials are read as such."""
    settings = read(
        HOLDFAST_SESSION_TTL_HOURS="1.5",
        HOLDFAST_MAX_LIFETIME_HOURS="none",
        HOLDFAST_IDLE_TIMEOUT_SECONDS=" 900 ",
        HOLDFAST_ALLOW_EXTEND="YES",
        HOLDFAST_AUTO_UPGRADE="off",
        HOLDFAST_LOG_LEVEL="Warning",
        HOLDFAST_APP_TOKEN=f"{SECRET}1, {SECRET}2",
        HOLDFAST_TRUSTED_PROXIES="10.0.0.0/8, ::1",
        HOLDFAST_COOKIE_NAME="__Secure-app",
        HOLDFAST_COOKIE_SAME_SITE="Strict",
        HOLDFAST_ALLOWED_ORIGINS="https://a.test, http://localhost:8000",
    )
    assert settings.session_ttl_hours == 1.5
    assert settings.max_lifetime_hours is None
    assert settings.idle_timeout_seconds == 900
    assert settings.allow_extend is True
    assert settings.auto_upgrade is False
    assert settings.log_level == "warning"
    assert settings.application_credentials == (f"{SECRET}1", f"{SECRET}2")
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert (settings.cookie_name, settings.cookie_same_site) == ("__Secure-app", "strict")
    assert settings.allowed_origins == ("https://a.test", "http://localhost:8000")


def test_unknown_names_are_refused_with_the_nearest() -> None:
    """A misspelt HOLDFAST_ name is an error that suggests the right one; other programs' names are not ours."""
    with pytest.raises(InvalidArgument, match="did you mean HOLDFAST_PORT"):
        read(HOLDFAST_PROT="1")
    with pytest.raises(InvalidArgument, match=r"^HOLDFAST_QQQQQQQQ is not a setting$"):
        read(HOLDFAST_QQQQQQQQ="1")
    assert read(HOLDFAST_TEST_X="1", HOLDFAST_BENCH_Y="1", PORT="x", HOLD="y", UVICORN_PORT="z") == Settings()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("HOLDFAST_APP_TOKEN_FILE", "application_credentials"),
        ("HOLDFAST_ADMIN_TOKEN_FILE", "operator_credentials"),
        ("DATABASE_URL_FILE", "database_url"),
        ("HOLDFAST_DATABASE_URL_FILE", "database_url"),
    ],
)
def test_secrets_come_from_files(tmp_path: Path, name: str, field: str) -> None:
    """S-70: the contents of the named file, without the white space around them, are the value."""
    file = tmp_path / "secret"
    text = POSTGRES if field == "database_url" else SECRET
    file.write_text(f"  {text}\n")
    assert getattr(Settings.from_environment({name: str(file)}), field) in (text, (text,))


def test_a_bad_secret_file_is_an_error_without_its_contents(tmp_path: Path) -> None:
    """S-70: missing, empty, binary and wrong contents name the variable, and show nothing that was in the file."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    (tmp_path / "short").write_text("hunter2")
    for name in ("missing", "empty", "binary", "short", ""):
        with pytest.raises(InvalidArgument, match="HOLDFAST_APP_TOKEN") as refusal:
            read(HOLDFAST_APP_TOKEN_FILE=str(tmp_path / name))
        assert "hunter2" not in str(refusal.value)


def test_a_file_is_offered_for_secrets_only() -> None:
    """What is not secret has no _FILE form; the name is unknown."""
    with pytest.raises(InvalidArgument, match="not a setting"):
        read(HOLDFAST_PORT_FILE="x")


def test_no_text_form_shows_a_secret() -> None:
    """S-70: the repr tells which secrets are set and not what they are."""
    settings = read(
        DATABASE_URL=POSTGRES, HOLDFAST_APP_TOKEN=SECRET, HOLDFAST_ADMIN_TOKEN=SECRET + "2", HOLDFAST_PORT="1"
    )
    for text in (repr(settings), str(settings), f"{settings}"):
        assert SECRET not in text
        assert "hunter2" not in text
        assert "application_credentials=hidden" in text
        assert "port=1" in text


def test_settings_reach_the_manager_and_the_store() -> None:
    """The policy and the store's options are what the settings say."""
    settings = read(
        HOLDFAST_SESSION_TTL_HOURS="2",
        HOLDFAST_IDLE_TIMEOUT_SECONDS="60",
        HOLDFAST_MAX_LIFETIME_HOURS="4",
        HOLDFAST_ROTATION_GRACE_SECONDS="5",
        HOLDFAST_RETENTION_SECONDS="7",
        HOLDFAST_SCHEMA="app",
        HOLDFAST_DEADLINE_SECONDS="3",
        HOLDFAST_CONNECTIONS="9",
        HOLDFAST_POOLED="true",
        HOLDFAST_LISTEN_URL="postgresql://past-the-pooler/app",
        HOLDFAST_STRICT_SQLITE="true",
        HOLDFAST_MAX_SESSIONS_PER_USER="3",
        HOLDFAST_AT_CAP="evict",
    )
    policy = settings.manager(MemoryStore()).policy
    assert [
        policy.lifetime.total_seconds(),
        policy.idle_timeout and policy.idle_timeout.total_seconds(),
        policy.max_lifetime and policy.max_lifetime.total_seconds(),
        policy.rotation_grace.total_seconds(),
        policy.retention.total_seconds(),
    ] == [7200, 60, 14_400, 5, 7]
    assert (policy.max_sessions, policy.at_cap) == (3, "evict")
    options = settings.store_options()
    assert options.listen == "postgresql://past-the-pooler/app"
    assert (options.schema, options.deadline, options.connections) == ("app", 3, 9)
    assert (options.upgrade, options.pooled, options.strict_sqlite) == (None, True, True)


def test_the_environment_wins_over_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process was given counts more than what a file says."""
    monkeypatch.setenv("HOLDFAST_PORT", "1")
    merged = process_environment({"HOLDFAST_PORT": "2", "HOLDFAST_HOST": "::1"})
    assert (merged["HOLDFAST_PORT"], merged["HOLDFAST_HOST"]) == ("1", "::1")
    assert Settings.from_environment(merged).host == "::1"


def test_the_reference_page_is_the_table() -> None:
    """docs/reference/settings.md is what `python -m holdfast.settings.reference` writes."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == reference.page()


def test_every_secret_is_marked() -> None:
    """S-70: whatever holds a password or a credential is hidden."""
    assert {variable.name for variable in VARIABLES if variable.secret} == {
        "DATABASE_URL",
        "HOLDFAST_LISTEN_URL",
        "HOLDFAST_APP_TOKEN",
        "HOLDFAST_ADMIN_TOKEN",
    }


def test_settings_need_no_extra() -> None:
    """The library reads its settings with nothing installed but itself."""
    program = (
        "import sys\n"
        "for name in ('pydantic', 'fastapi', 'starlette', 'dotenv', 'typer'): sys.modules[name] = None\n"
        "from holdfast.settings import Settings\n"
        "print(Settings.from_environment({}).address())\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    assert shown.stdout.strip() == "data/sessions.db"
