"""Every usual spelling of a database address, and clear refusals that never show a password."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg import connect_utils
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.sessions.errors import InvalidArgument
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address

SECRET = "s3cr3t-Pa55"


class Reached:
    """What the driver makes of an address: where it connects, and as whom."""

    def __init__(self, address: PostgresqlAddress) -> None:
        arguments: dict[str, Any] = dict.fromkeys(
            ("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile"),
        )
        arguments |= dict.fromkeys(
            ("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
        )
        # Its own reading, which it shows to nobody: what is understood here is what happens.
        driver: Any = connect_utils
        places, parameters = driver._parse_connect_dsn_and_args(dsn=address.dsn, **arguments)
        self.places = [tuple(place) if isinstance(place, tuple | list) else place for place in places]
        self.user = parameters.user
        self.password = parameters.password
        self.database = parameters.database
        self.sslmode = parameters.sslmode.name
        self.attrs = parameters.target_session_attrs.name
        self.settings = parameters.server_settings


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver also looks into the environment; here it finds nothing."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSERVICE", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)


LOCAL = [("db", 5432)]
TWO = [("h1", 5432), ("h2", 6432)]

SPELLINGS: dict[str, dict[str, Any]] = {
    # The schemes
    "postgres://u@db/app": {"places": LOCAL, "user": "u", "database": "app"},
    "postgresql://u@db/app": {"places": LOCAL},
    "POSTGRESQL://u@db/app": {"places": LOCAL},
    "postgresql+asyncpg://u@db/app": {"places": LOCAL},
    "postgres+asyncpg://u@db/app": {"places": LOCAL},
    "postgresql+psycopg://u@db/app": {"places": LOCAL},
    "postgresql+psycopg2://u@db/app": {"places": LOCAL},
    "postgresql+psycopg_async://u@db/app": {"places": LOCAL},
    "  postgresql://u@db/app\n": {"places": LOCAL, "database": "app"},
    # Hosts and ports
    "postgresql://u@db:6543/app": {"places": [("db", 6543)]},
    "postgresql://u@h1:5432,h2:6432/app": {"places": TWO},
    "postgresql://u@/app?host=h1:5432&host=h2:6432": {"places": TWO},
    "postgresql://u@/app?host=h1,h2&port=5432,6432": {"places": TWO},
    "postgresql://u@h1,h2:6432/app?port=5432": {"places": TWO},
    "postgresql+asyncpg://u@h1:5432/app?host=h2:6432": {"places": TWO},
    "postgresql:///app?host=db&port=6543&user=u": {"places": [("db", 6543)], "user": "u"},
    "postgresql://u@[::1]:6543/app": {"places": [("::1", 6543)]},
    "postgresql://u@[::1]/app": {"places": [("::1", 5432)]},
    "postgresql://u@[::1]:5432,[2001:db8::2]:6432/app": {"places": [("::1", 5432), ("2001:db8::2", 6432)]},
    "postgresql://u@/app?host=::1": {"places": [("::1", 5432)]},
    "postgresql://u@/app?host=/var/run/postgresql": {"places": ["/var/run/postgresql/.s.PGSQL.5432"]},
    "postgresql://u@/app?host=/run/pg&port=6543": {"places": ["/run/pg/.s.PGSQL.6543"]},
    "postgresql://u@%2Fvar%2Frun%2Fpostgresql/app": {"places": ["/var/run/postgresql/.s.PGSQL.5432"]},
    # Logins
    "postgresql://u:s3cr3t-Pa55@db/app": {"password": SECRET},
    "postgresql://u:p%40%3A%2F%23%3F%25%5B%5D@db/app": {"places": LOCAL, "user": "u", "password": "p@:/#?%[]"},
    "postgresql://u:p@ss@db/app": {"places": LOCAL, "user": "u", "password": "p@ss"},
    "postgresql://u:p:a:ss@db/app": {"places": LOCAL, "user": "u", "password": "p:a:ss"},
    "postgresql://u:p+a ss@db/app": {"places": LOCAL, "password": "p+a ss"},
    "postgresql://us%40er:x@db/app": {"places": LOCAL, "user": "us@er"},
    "postgresql://db/app?user=u&password=p%40ss%2F": {"places": LOCAL, "user": "u", "password": "p@ss/"},
    "postgresql://u@db/caf%C3%A9": {"database": "café"},
    "postgresql://u@db?dbname=app": {"places": LOCAL, "database": "app"},
    # TLS
    "postgresql://u@db/app?sslmode=disable": {"sslmode": "disable"},
    "postgresql://u@db/app?sslmode=require": {"sslmode": "require"},
    "postgresql+asyncpg://u@db/app?ssl=require": {"sslmode": "require"},
    "postgresql+asyncpg://u@db/app?ssl=true": {"sslmode": "require"},
    "postgresql+asyncpg://u@db/app?ssl=False": {"sslmode": "disable"},
    "postgresql://u@db/app?sslmode=require&channel_binding=prefer": {"sslmode": "require"},
    # The rest
    "postgresql://u@db/app?target_session_attrs=any": {"attrs": "any"},
    "postgresql://u@db/app?target_session_attrs=primary": {"attrs": "primary"},
    "postgresql://u@db/app?target_session_attrs=read-write": {"attrs": "read_write"},
    "postgresql://u@db/app?application_name=a%20b": {"settings": {"application_name": "a b"}},
    "postgresql://u@db/app?options=-c%20work_mem%3D8MB": {"settings": {"options": "-c work_mem=8MB"}},
    "postgresql://u@db/app?connect_timeout=10&keepalives=1&prepared_statement_cache_size=0": {"places": LOCAL},
    "postgresql://u@db/app?async_fallback=true&statement_cache_size=0": {"places": LOCAL},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_usual_spelling(spelling: str) -> None:
    """PRODUCT 3: an address leads the driver to where its writer meant, whatever its spelling."""
    address = parse_address(spelling)
    assert isinstance(address, PostgresqlAddress)
    reached = Reached(address)
    assert {name: getattr(reached, name) for name in SPELLINGS[spelling]} == SPELLINGS[spelling]
    assert not address.pooled
    for shown in (str(address), repr(address), f"{[address]}"):
        assert reached.password is None or quote(reached.password, safe="") not in shown
        assert SECRET not in shown


def test_an_address_wants_a_server_that_writes() -> None:
    """PRODUCT 3: with several hosts the one that takes writes is wanted, unless the address says otherwise."""
    address = parse_address("postgresql://u@h1,h2/app")
    assert isinstance(address, PostgresqlAddress)
    assert Reached(address).attrs == "read_write"


@pytest.mark.parametrize(
    ("value", "pooled"), [("true", True), ("1", True), ("YES", True), ("false", False), ("", False)]
)
def test_a_pooler_is_announced(value: str, pooled: bool) -> None:
    """PRODUCT 3: `pgbouncer=true` is for us, and no option of the driver."""
    address = parse_address(f"postgresql://u@db/app?pgbouncer={value}")
    assert isinstance(address, PostgresqlAddress)
    assert address.pooled is pooled
    assert "pgbouncer" not in address.dsn


HOME = Path("~").expanduser()

FILES: dict[str, Path] = {
    "sqlite:///data/sessions.db": Path("data/sessions.db"),
    "sqlite:////var/lib/sessions.db": Path("/var/lib/sessions.db"),
    "sqlite+aiosqlite:///sessions.db": Path("sessions.db"),
    "sqlite+pysqlite:////sessions.db": Path("/sessions.db"),
    "SQLITE:///sessions.db": Path("sessions.db"),
    "sqlite:///~/sessions.db": HOME / "sessions.db",
    "sqlite:///C:\\data\\sessions.db": Path("C:\\data\\sessions.db"),
    "sqlite:///C:/data/sessions.db": Path("C:/data/sessions.db"),
    "sessions.db": Path("sessions.db"),
    "./sessions.db": Path("sessions.db"),
    "../data/sessions.db": Path("../data/sessions.db"),
    "/var/lib/holdfast/sessions.db": Path("/var/lib/holdfast/sessions.db"),
    "~/sessions.db": HOME / "sessions.db",
    "C:\\data\\me@home.db": Path("C:\\data\\me@home.db"),
    "C:/data/me@home.db": Path("C:/data/me@home.db"),
    "with space and ümlaut.db": Path("with space and ümlaut.db"),
    "100%25 #1.db": Path("100%25 #1.db"),
    "user@home.db": Path("user@home.db"),
    "postgres.db": Path("postgres.db"),
    "sqlite:///data/host=1.db": Path("data/host=1.db"),
}


@pytest.mark.parametrize("spelling", FILES)
def test_every_usual_spelling_of_a_file(spelling: str) -> None:
    """PRODUCT 3: three slashes and a relative path, four and an absolute one, or a path as it is."""
    assert parse_address(spelling) == SqliteAddress(FILES[spelling])


@pytest.mark.parametrize(
    "path", [Path("sessions.db"), Path("/a/what?.db"), Path("host=1.db"), Path("a:b@c.db")], ids=str
)
def test_a_path_is_taken_as_it_is(path: Path) -> None:
    """PRODUCT 3: what is a `Path` already is no address, whatever its name looks like."""
    assert parse_address(path) == SqliteAddress(path)


class OddPath:
    """A path of bytes, as `os.scandir(b'.')` gives."""

    def __fspath__(self) -> bytes:
        return b"/data/caf\xc3\xa9.db"


def test_a_path_of_bytes() -> None:
    """PRODUCT 3: every `os.PathLike` will do."""
    assert parse_address(OddPath()) == SqliteAddress(Path("/data/café.db"))  # type: ignore[arg-type]  # of bytes


REFUSALS = {
    # What it is, and what the text has to say
    "": "non-empty",
    "  ": "non-empty",
    "sqlite://": "names a file",
    "sqlite:///": "names a file",
    "sqlite://sessions.db": "three slashes",
    "sqlite:///:memory:": "MemoryStore",
    ":memory:": "MemoryStore",
    "file:sessions.db": "names a file",
    "sqlite:///file:sessions.db": "names a file",
    "sqlite:///sessions.db?mode=ro": "no options",
    "sessions.db?mode=ro": "no options",
    "a\0b.db": "NUL",
    "~nobody-of-this-name/sessions.db": "home directory",
    f"mysql://u:{SECRET}@db/app": "mysql://",
    f"redis://:{SECRET}@db": "redis://",
    f"postgresq://u:{SECRET}@db/app": "postgresq://",
    f"'postgresql://u:{SECRET}@db/app'": "without quotes",
    f'"postgresql://u:{SECRET}@db/app"': "without quotes",
    f"postgresql:/u:{SECRET}@db/app": "neither",
    f"postgresql+asyncpg:u:{SECRET}@db/app": "neither",
    f"u:{SECRET}@db:5432/app": "neither",
    f"host=db user=u password={SECRET}": "neither",
    "data/host=1.db": "neither",
    f"DATABASE_URL=postgresql://u:{SECRET}@db/app": "neither",
    f"postgresql://u:{SECRET}#1@db/app": "%23",
    f"postgresql://u:1/{SECRET}@db/app": "%2F",
    f"postgresql://u:1?{SECRET}@db/app": "%3F",
    f"postgresql://u:1?{SECRET}=1@db/app": "%3F",
    f"postgresql://u:{SECRET}/1@db/app": "special|%2F",
    f"postgresql://u:[{SECRET}@db/app": "brackets",
    f"postgresql://u:{SECRET}℀@db/app": "special characters",
    f"postgresql://u:{SECRET}\ud800@db/app": "special characters",
    f"postgresql://u:{SECRET}@db/app\0": "NUL",
    f"postgresql://u:{SECRET}@db:port/app": "1 to 65535",
    f"postgresql://u:{SECRET}@db:0/app": "1 to 65535",
    f"postgresql://u:{SECRET}@db:65536/app": "1 to 65535",
    f"postgresql://u:{SECRET}@db:²/app": "1 to 65535|special",
    f"postgresql://u:{SECRET}@db:{'9' * 5000}/app": "1 to 65535",
    f"postgresql://u:{SECRET}@/app?host=/run&port=x": "1 to 65535",
    f"postgresql://u:{SECRET}@h1,h2,h3/app?port=1,2": "number of ports",
    f"postgresql://u:{SECRET}@h1,,h2/app": "comma",
    f"postgresql://u:{SECRET}@::1/app": "1 to 65535",
    f"postgresql://u:{SECRET}@db/app?sslmod=require": "'sslmod'",
    f"postgresql://u:{SECRET}@db/app?sslmode=on": "sslmode",
    f"postgresql://u:{SECRET}@db/app?channel_binding=require": "channel_binding",
    f"postgresql://u:{SECRET}@db/app?target_session_attrs=standby": "target_session_attrs",
}


def every_text(error: BaseException) -> Iterator[str]:
    """All that a log or a debugger could show of an error and what led to it."""
    yield "".join(traceback.format_exception(error, chain=True))
    current: BaseException | None = error
    while current is not None:
        yield f"{current} {current!r} {current.args}"
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


@pytest.mark.parametrize("address", REFUSALS)
def test_refusals_are_clear_and_keep_the_password(address: str) -> None:
    """S-70, PRODUCT 3: what is no address is refused with what to do, and the password is nowhere in it."""
    with pytest.raises(InvalidArgument, match=REFUSALS[address]) as caught:
        parse_address(address)
    shown = [text for text in every_text(caught.value) if SECRET in text and "REFUSALS" not in text]
    assert shown == []


@pytest.mark.parametrize("address", [None, 1, True, b"sqlite:///x", ["sqlite:///x"]])
def test_only_strings_and_paths(address: Any) -> None:
    """PRODUCT 3: another type is the caller's mistake."""
    with pytest.raises(InvalidArgument, match="string or a path"):
        parse_address(address)


def understood(address: Any) -> SqliteAddress | PostgresqlAddress | InvalidArgument:
    """The address, or the refusal."""
    try:
        return parse_address(address)
    except InvalidArgument as error:
        return error


@given(st.text())
@example("~")
@example("~\0")
@example("//")
@example("sqlite:////")
def test_any_text_is_an_address_or_a_refusal(text: str) -> None:
    """PRODUCT 3: parsing raises nothing but `InvalidArgument`."""
    understood(text)


PARTS = st.sampled_from(
    ["u", ":", "@", "h", "/", "?", "#", "[", "]", ",", "%", "=", "&", "1", "port", "host", "\0", " "]
)


@given(st.sampled_from(["postgres://", "postgresql://", "postgresql+asyncpg://"]), st.lists(PARTS | st.characters()))
@example("postgresql://", ["h", ":", "²"])
@example("postgresql://", ["\ud800"])
@example("postgresql://", ["[", "]"])
@example("postgresql://", ["u", "@", ",", "/", "?", "host", "="])
def test_any_text_after_the_scheme(scheme: str, parts: list[str]) -> None:
    """PRODUCT 3: and what is accepted, the driver can read: none of its own refusals comes later."""
    address = understood(scheme + "".join(parts))
    if isinstance(address, PostgresqlAddress):
        Reached(address)


@given(st.text(min_size=1), st.sampled_from(["", "?sslmode=require", ":5432"]))
@example("1/x", "")
@example("1?sslmode=", "")
@example("x@1?y=", "")
@example("℀", "")
def test_a_password_as_it_is(password: str, end: str) -> None:
    """S-70: a password that nobody encoded is accepted or refused, and shown in neither case."""
    mark = "Zq7"
    secret = f"{mark}{password}{mark}"
    host = f"db{end}" if end.startswith(":") else "db"
    address = understood(f"postgresql://u:{secret}@{host}/app{'' if end.startswith(':') else end}")
    if isinstance(address, InvalidArgument):
        texts = [f"{address}", repr(address), repr(address.__cause__), *map(str, address.args)]
    else:
        texts = [str(address), repr(address)]
    assert not [text for text in texts if mark in text]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_an_encoded_password_arrives_whole(password: str) -> None:
    """PRODUCT 3: percent-encoded, every password reaches the driver as it is."""
    address = parse_address(f"postgresql://u:{quote(password, safe='')}@db:6543/app")
    assert isinstance(address, PostgresqlAddress)
    reached = Reached(address)
    assert (reached.user, reached.password, reached.places) == ("u", password, [("db", 6543)])
