"""From every usual spelling of a database address to what the drivers take. Connects to nothing."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from holdfast.sessions.errors import InvalidArgument

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*)://")
_SQLITE: Final = {"sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"}
_POSTGRESQL: Final = {
    f"{name}{driver}"
    for name in ("postgres", "postgresql")
    for driver in ("", "+asyncpg", "+psycopg", "+psycopg_async", "+psycopg2")
}
# What asyncpg itself reads from an address, and what PostgreSQL takes as a start-up parameter.
_UNDERSTOOD: Final = {
    "host", "port", "user", "password", "dbname", "database", "passfile", "service", "servicefile",
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
    "application_name", "options",
}  # fmt: skip
# Other drivers' tuning: Holdfast sets its own timeouts and caches, so these say nothing about where the database is.
_IGNORED: Final = {
    "connect_timeout", "prepared_statement_cache_size", "statement_cache_size", "prepared_statement_name_func",
    "async_fallback", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
}  # fmt: skip
# What a bare path does not look like: an address in quotes or without its slashes, or libpq's list of keywords.
# Taken for a path it would make a file, and its password would be in every message about that file.
_NO_PATH: Final = re.compile(
    r"://|\A(postgres|postgresql|sqlite)(\+\w+)?:|\b(host|hostaddr|dbname|user|password)\s*=|\A[^/\\@]*:(?![/\\]).*@",
    re.IGNORECASE | re.DOTALL,
)
_OPTION: Final = re.compile(r"[A-Za-z_]{1,63}")
_VALUES: Final = {
    "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
    # Of the wishes that PostgreSQL knows, those that lead to a server which takes writes.
    "target_session_attrs": {"any", "primary", "read-write"},
}


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """A SQLite file, which need not exist yet."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, repr=False)
class PostgresqlAddress:
    """A PostgreSQL database: one or several hosts, of which the one that takes writes is wanted."""

    dsn: str
    """In the form that asyncpg parses. Holds the password: for the driver only."""
    shown: str
    """The same without password and options, for messages."""
    pooled: bool
    """Whether the address says that a transaction pooler stands in front (`pgbouncer=true`)."""

    def __str__(self) -> str:
        return self.shown

    __repr__ = __str__


def parse_address(address: str | os.PathLike[str]) -> SqliteAddress | PostgresqlAddress:
    """What an address names. Raises `InvalidArgument`, without the password, when it is none Holdfast can use."""
    if isinstance(address, os.PathLike):
        return _sqlite(os.fsdecode(address))
    if not isinstance(address, str) or not address.strip():
        raise InvalidArgument(
            "a database address is a non-empty string or a path, such as sqlite:///data/sessions.db or "
            "postgresql://user:password@host/database"
        )
    address = address.strip()
    scheme = _SCHEME.match(address)
    if scheme is None:
        if _NO_PATH.search(address):
            raise InvalidArgument(
                "this is neither a path nor an address; write sqlite:///path/to/file or "
                "postgresql://user:password@host/database, without quotes"
            )
        return _sqlite_text(address)
    name, rest = scheme[1].lower(), address[scheme.end() :]
    if name in _SQLITE:
        # After the two slashes comes an empty host and one more slash, then the path as it is.
        if rest and not rest.startswith("/"):
            raise InvalidArgument("a SQLite address has three slashes before a relative path: sqlite:///sessions.db")
        return _sqlite_text(rest[1:])
    if name in _POSTGRESQL:
        return _postgresql(rest)
    raise InvalidArgument(
        f"no store for {name}:// addresses; use sqlite:///path/to/file or postgresql://user@host/database"
    )


def _sqlite_text(path: str) -> SqliteAddress:
    if "?" in path:
        raise InvalidArgument(
            "a SQLite address has no options after the path; leave out the '?' and what follows, or give a file with a "
            "'?' in its name as a pathlib.Path"
        )
    return _sqlite(path)


def _sqlite(path: str) -> SqliteAddress:
    if path in ("", ".", ":memory:") or path.startswith("file:"):
        raise InvalidArgument(
            "a SQLite address names a file, such as sqlite:///data/sessions.db; "
            "for sessions that may vanish with the process use holdfast.memory.MemoryStore"
        )
    if "\0" in path:
        raise InvalidArgument("a path cannot contain a NUL character")
    try:
        return SqliteAddress(Path(path).expanduser())
    except RuntimeError:
        raise InvalidArgument("the home directory at the beginning of the path is not known; write it out") from None


def _postgresql(rest: str) -> PostgresqlAddress:
    # Neither the rest nor an error about it may be shown: nobody knows yet where in it the password is.
    try:
        rest.encode()
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError:
        raise InvalidArgument("the PostgreSQL address cannot be read; check brackets and special characters") from None
    if parts.fragment or rest.endswith("#"):
        raise InvalidArgument("the PostgreSQL address contains a '#'; write it as %23 in a user name or password")
    if "\0" in rest:
        raise InvalidArgument("the PostgreSQL address contains a NUL character")
    if "@" in parts.path or "@" in parts.query:
        raise InvalidArgument(
            "the PostgreSQL address has an '@' after its first '/' or '?'; in a user name or password write "
            "/ as %2F, ? as %3F and @ as %40"
        )
    credentials, _, place = parts.netloc.rpartition("@")
    options, extra_hosts, pooled = _options(parts.query)
    hosts = [*(place.split(",") if place else ()), *extra_hosts]
    if not all(hosts):
        raise InvalidArgument("a host in the PostgreSQL address is empty; look for a comma too many")
    if hosts and "port" in options:
        # The driver would not look at it, once there is a host in front.
        hosts = _with_ports(hosts, options.pop("port").split(","))
    for port in (*map(_port, hosts), *options.get("port", "").split(",")):
        if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise InvalidArgument("a port in the PostgreSQL address is not a number from 1 to 65535")
    options.setdefault("target_session_attrs", "read-write")
    location = f"{','.join(hosts)}{parts.path}"
    user = unquote(credentials.partition(":")[0])
    # The last '@' ends the credentials; the driver would take the first, and the rest of the password for a host.
    credentials = credentials.replace("@", "%40")
    return PostgresqlAddress(
        dsn=f"postgresql://{credentials}{'@' if credentials else ''}{location}?{urlencode(options, quote_via=quote)}",
        shown=f"postgresql://{user}{'@' if user else ''}{location}",
        pooled=pooled,
    )


def _port(host: str) -> str:
    """The port behind a host; empty when there is none. The colons of IPv6 are in brackets."""
    return host.rpartition("]")[2].partition(":")[2]


def _with_ports(hosts: list[str], ports: list[str]) -> list[str]:
    """The hosts, those without a port with the one from the options: one for all, or one for each."""
    if len(ports) not in (1, len(hosts)):
        raise InvalidArgument(
            "the PostgreSQL address has another number of ports than of hosts; give one for all hosts, or one for each"
        )
    each = ports * len(hosts) if len(ports) == 1 else ports
    return [host if _port(host) or not port else f"{host}:{port}" for host, port in zip(hosts, each, strict=True)]


def _options(query: str) -> tuple[dict[str, str], list[str], bool]:
    """The options in the driver's spelling, hosts given as options, and whether a pooler is in front."""
    options: dict[str, str] = {}
    hosts: list[str] = []
    pooled = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "ssl":
            options["sslmode"] = {"true": "require", "false": "disable"}.get(value.lower(), value)
        elif name == "pgbouncer":
            pooled = value.lower() in ("true", "1", "yes")
        elif name == "host" and not value.startswith("/"):
            hosts += [f"[{host}]" if host.count(":") > 1 and "[" not in host else host for host in value.split(",")]
        elif name == "channel_binding" and value == "require":
            raise InvalidArgument("the driver cannot do channel_binding=require; use sslmode=verify-full instead")
        elif name in _UNDERSTOOD:
            options[name] = value
        elif name not in _IGNORED and name != "channel_binding":
            shown = f"option {name!r}" if _OPTION.fullmatch(name) else "text where options are"
            raise InvalidArgument(f"unknown {shown} in the PostgreSQL address; leave it out")
    for name, allowed in _VALUES.items():
        if options.get(name, next(iter(allowed))) not in allowed:
            raise InvalidArgument(f"{name} in the PostgreSQL address is one of {', '.join(sorted(allowed))}")
    return options, hosts, pooled
