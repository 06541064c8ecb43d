"""From every usual spelling of a database address to what the drivers take. Connects to nothing."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from holdfast.sessions.errors import InvalidArgument

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
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
        return _sqlite(os.fspath(address))
    if not isinstance(address, str) or not address.strip() or "\0" in address:
        raise InvalidArgument("a database address is a non-empty string or a path")
    address = address.strip()
    scheme = _SCHEME.match(address)
    if scheme is None:
        return _sqlite(address)
    name, rest = scheme[1].lower(), address[scheme.end() :]
    if name in _SQLITE:
        # After the two slashes comes an empty host and one more slash, then the path as it is.
        if rest and not rest.startswith("/"):
            raise InvalidArgument("a SQLite address has three slashes before a relative path: sqlite:///sessions.db")
        return _sqlite(rest[1:])
    if name in _POSTGRESQL:
        return _postgresql(rest)
    raise InvalidArgument(
        f"no store for {name}:// addresses; use sqlite:///path/to/file or postgresql://user@host/database"
    )


def _sqlite(path: str) -> SqliteAddress:
    if path in ("", ":memory:") or path.startswith("file:"):
        raise InvalidArgument(
            "a SQLite address names a file, such as sqlite:///data/sessions.db; "
            "for sessions that may vanish with the process use holdfast.memory.MemoryStore"
        )
    if "?" in path:
        raise InvalidArgument("a SQLite address has no options after the path")
    return SqliteAddress(Path(path).expanduser())


def _postgresql(rest: str) -> PostgresqlAddress:
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError as error:
        raise InvalidArgument("the PostgreSQL address cannot be read; check brackets and special characters") from error
    if parts.fragment:
        raise InvalidArgument("the PostgreSQL address contains a '#'; write it as %23 in a user name or password")
    credentials, _, hosts = parts.netloc.rpartition("@")
    options, extra_hosts, pooled = _options(parts.query)
    hosts = ",".join([hosts, *extra_hosts] if hosts else extra_hosts)
    for host in hosts.split(","):
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            raise InvalidArgument("a port in the PostgreSQL address is not a number from 1 to 65535")
    if "target_session_attrs" not in options:
        options["target_session_attrs"] = "read-write"
    location = f"{hosts}{parts.path}"
    user = unquote(credentials.partition(":")[0])
    return PostgresqlAddress(
        dsn=f"postgresql://{credentials}{'@' if credentials else ''}{location}?{urlencode(options, quote_via=quote)}",
        shown=f"postgresql://{user}{'@' if user else ''}{location}",
        pooled=pooled,
    )


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
            hosts.append(value)
        elif name == "channel_binding" and value == "require":
            raise InvalidArgument("the driver cannot do channel_binding=require; use sslmode=verify-full instead")
        elif name in _UNDERSTOOD:
            options[name] = value
        elif name not in _IGNORED and name != "channel_binding":
            raise InvalidArgument(f"unknown option {name!r} in the PostgreSQL address")
    return options, hosts, pooled
