"""The table of settings: parsing, errors and `docs/reference/settings.md` all come from this class."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.policy import MAX_CAP
from holdfast.sessions.store import Store, StoreOptions, TwoStores
from holdfast.settings.environment import Environment, Variable, process_environment, read
from holdfast.settings.kinds import (
    ADDRESS,
    COOKIE_NAME,
    CREDENTIALS,
    FLAG,
    HOST,
    IDENTIFIER,
    NETWORKS,
    ORIGINS,
    PATH,
    ZONE,
    Kind,
    Network,
    number,
    number_or_none,
    whole,
    whole_or_none,
    word,
)

_DEFAULT_SQLITE_PATH: Final = Path("data/sessions.db")
# A hundred years, the longest duration the manager takes.
_HOURS: Final = 876_600
_SECONDS: Final = _HOURS * 3600

Default = TypeVar("Default")


def _set_by(name: str, kind: Kind, sentence: str, *, default: Default, secret: bool = False) -> Default:
    """A setting: the variable that sets it, and what it is without that. Typed as what the dataclass makes of it."""
    return field(default=default, metadata={"variable": Variable(name, kind, sentence, secret)})


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """The settings of one process, made and checked by `from_environment`."""

    database_url: str | None = _set_by(
        "DATABASE_URL", ADDRESS, "The database, in every usual spelling.", default=None, secret=True
    )
    sqlite_path: Path | None = _set_by(  # noqa: RUF009 - it makes a field
        "HOLDFAST_SQLITE_PATH",
        PATH,
        "The SQLite file; `data/sessions.db` when nothing names a database. "
        "With PostgreSQL in `DATABASE_URL` too, a move between the two is followed.",
        default=None,
    )
    database_type: Literal["sqlite", "postgresql"] | None = _set_by(
        "SESSION_DB_TYPE",
        word("sqlite", "postgresql"),
        "Which store serves when PostgreSQL and a SQLite file are both named and no move has taken place.",
        default=None,
    )
    schema: str = _set_by(
        "HOLDFAST_SCHEMA", IDENTIFIER, "The PostgreSQL schema that holds the tables.", default="public"
    )
    session_ttl_hours: float = _set_by(
        "HOLDFAST_SESSION_TTL_HOURS", number(0.001, _HOURS, "hours"), "From creation to the first expiry.", default=24.0
    )
    idle_timeout_seconds: float | None = _set_by(
        "HOLDFAST_IDLE_TIMEOUT_SECONDS",
        number_or_none(1, _SECONDS, "seconds"),
        "How long a session stays live without activity; none for no limit.",
        default=None,
    )
    max_lifetime_hours: float | None = _set_by(
        "HOLDFAST_MAX_LIFETIME_HOURS",
        number_or_none(0.001, _HOURS, "hours"),
        "No extension passes creation plus this; none for no cap.",
        default=720.0,
    )
    rotation_grace_seconds: float = _set_by(
        "HOLDFAST_ROTATION_GRACE_SECONDS",
        number(0, 30, "seconds"),
        "How long the predecessor of a rotated token still validates, and does nothing else.",
        default=0.0,
    )
    retention_seconds: float = _set_by(
        "HOLDFAST_RETENTION_SECONDS",
        number(0, _SECONDS, "seconds"),
        "How long an ended session is kept so that its end can be explained.",
        default=3600.0,
    )
    max_sessions_per_user: int | None = _set_by(
        "HOLDFAST_MAX_SESSIONS_PER_USER",
        whole_or_none(1, MAX_CAP, "sessions"),
        "How many live sessions a user may have at any instant; none for no cap.",
        default=None,
    )
    at_cap: Literal["refuse", "evict"] = _set_by(
        "HOLDFAST_AT_CAP",
        word("refuse", "evict"),
        "At that cap a new session is refused, or the user's oldest ones are ended to make room.",
        default="refuse",
    )
    on_replay: Literal["report", "end"] = _set_by(
        "HOLDFAST_ON_REPLAY",
        word("report", "end"),
        "What follows the use of a token that rotation has replaced: a line in the log, or also the session's end.",
        default="report",
    )
    sweep_interval_seconds: float | None = _set_by(
        "HOLDFAST_SWEEP_INTERVAL_SECONDS",
        number_or_none(1, 86_400, "seconds"),
        "Between two sweeps; none when another process sweeps.",
        default=60.0,
    )
    deadline_seconds: float = _set_by(
        "HOLDFAST_DEADLINE_SECONDS",
        number(0.1, 300, "seconds"),
        "How long one call to the store may take, retries included.",
        default=5.0,
    )
    connections: int = _set_by(
        "HOLDFAST_CONNECTIONS",
        whole(1, 1000, "connections"),
        "PostgreSQL connections besides the nine that joined calls and sockets have for themselves.",
        default=5,
    )
    backup_directory: Path = _set_by(  # noqa: RUF009 - it makes a field
        "HOLDFAST_BACKUP_DIRECTORY",
        PATH,
        "Where `holdfast db backup` and `restore` keep backups.",
        default=Path("data/backups"),
    )
    auto_upgrade: bool | None = _set_by(
        "HOLDFAST_AUTO_UPGRADE",
        FLAG,
        "Whether opening brings the schema up to date; not set: on SQLite yes, on PostgreSQL no.",
        default=None,
    )
    pooled: bool = _set_by(
        "HOLDFAST_POOLED", FLAG, "Whether PgBouncer in transaction mode stands before PostgreSQL.", default=False
    )
    listen_url: str | None = _set_by(
        "HOLDFAST_LISTEN_URL",
        ADDRESS,
        "Behind a pooler: the same database past it, to hear of other servers' ends at once; else by asking.",
        default=None,
        secret=True,
    )
    strict_sqlite: bool = _set_by(
        "HOLDFAST_STRICT_SQLITE",
        FLAG,
        "Refuse a SQLite library that has the WAL-reset race instead of warning about it.",
        default=False,
    )
    legacy_tz: str | None = _set_by(
        "HOLDFAST_LEGACY_TZ",
        ZONE,
        "In whose local times an application's own table is written; not set: this machine's.",
        default=None,
    )
    host: str = _set_by(
        "HOLDFAST_HOST",
        HOST,
        "Where the server listens; beyond loopback only with both credentials set.",
        default="127.0.0.1",
    )
    port: int = _set_by(
        "HOLDFAST_PORT", whole(0, 65_535, "a port"), "The port it listens on; 0 takes a free one.", default=8000
    )
    application_credentials: tuple[str, ...] = _set_by(
        "HOLDFAST_APP_TOKEN", CREDENTIALS, "The application's credential.", default=(), secret=True
    )
    operator_credentials: tuple[str, ...] = _set_by(
        "HOLDFAST_ADMIN_TOKEN", CREDENTIALS, "The operator's credential.", default=(), secret=True
    )
    allow_anonymous: bool = _set_by(
        "HOLDFAST_ALLOW_ANONYMOUS", FLAG, "Whether anyone may create a session without a user.", default=False
    )
    anonymous_per_minute: int = _set_by(
        "HOLDFAST_ANONYMOUS_PER_MINUTE",
        whole(1, 100_000, "sessions"),
        "Anonymous sessions that one client address may create in a minute.",
        default=10,
    )
    anonymous_total_per_minute: int = _set_by(
        "HOLDFAST_ANONYMOUS_TOTAL_PER_MINUTE",
        whole(1, 1_000_000, "sessions"),
        "Anonymous sessions that all clients of this process together may create in a minute.",
        default=600,
    )
    allow_extend: bool = _set_by(
        "HOLDFAST_ALLOW_EXTEND", FLAG, "Whether a session's own token may extend it.", default=False
    )
    allow_metadata: bool = _set_by(
        "HOLDFAST_ALLOW_METADATA", FLAG, "Whether a session's own token may change its metadata.", default=False
    )
    cookie_name: str | None = _set_by(
        "HOLDFAST_COOKIE_NAME",
        COOKIE_NAME,
        "The session cookie's name; unless it is set, `__Host-session`, or `session-insecure-dev` over plain HTTP.",
        default=None,
    )
    cookie_same_site: Literal["lax", "strict"] = _set_by(
        "HOLDFAST_COOKIE_SAME_SITE",
        word("lax", "strict"),
        "Whether a link from another site arrives with the session cookie (lax) or without (strict).",
        default="lax",
    )
    cookie_insecure: bool = _set_by(
        "HOLDFAST_COOKIE_INSECURE",
        FLAG,
        "Whether the session cookie may travel over plain HTTP. For development on one machine.",
        default=False,
    )
    allowed_origins: tuple[str, ...] = _set_by(
        "HOLDFAST_ALLOWED_ORIGINS",
        ORIGINS,
        "Whose pages may act with the session cookie, spelled as browsers send it in Origin.",
        default=(),
    )
    max_body_bytes: int = _set_by(
        "HOLDFAST_MAX_BODY_BYTES", whole(1024, 16_777_216, "bytes"), "The largest request body.", default=65_536
    )
    allow_token_in_url: bool = _set_by(
        "HOLDFAST_ALLOW_TOKEN_IN_URL",
        FLAG,
        "Whether `/ws/<token>` opens a socket, as legacy clients write it; proxies log such addresses.",
        default=False,
    )
    max_message_bytes: int = _set_by(
        "HOLDFAST_MAX_MESSAGE_BYTES",
        whole(1, 16_777_216, "bytes"),
        "The largest message from a socket's client.",
        default=65_536,
    )
    messages_per_second: float = _set_by(
        "HOLDFAST_MESSAGES_PER_SECOND",
        number(0.1, 100_000, "messages"),
        "How many messages a socket's client may send on average; five times as many at once.",
        default=20.0,
    )
    validate_every_seconds: float = _set_by(
        "HOLDFAST_VALIDATE_EVERY_SECONDS",
        number(0, 3600, "seconds"),
        "How long one validate of a socket's messages suffices; 0 validates every message.",
        default=0.0,
    )
    sockets_per_session: int = _set_by(
        "HOLDFAST_SOCKETS_PER_SESSION",
        whole(1, 1_000_000, "sockets"),
        "Sockets of one session in this process.",
        default=20,
    )
    sockets_per_user: int = _set_by(
        "HOLDFAST_SOCKETS_PER_USER", whole(1, 1_000_000, "sockets"), "Sockets of one user in this process.", default=100
    )
    max_sockets: int = _set_by(
        "HOLDFAST_MAX_SOCKETS",
        whole(1, 1_000_000, "sockets"),
        "Sockets of this process; fewer when the limit on open files leaves room for fewer.",
        default=20_000,
    )
    max_connections: int = _set_by(
        "HOLDFAST_MAX_CONNECTIONS",
        whole(1, 1_000_000, "connections"),
        "Connections at once, not counting sockets, before the server answers 503.",
        default=20_000,
    )
    trusted_proxies: tuple[Network, ...] = _set_by(
        "HOLDFAST_TRUSTED_PROXIES",
        NETWORKS,
        "Proxies whose X-Forwarded-For is believed; from anyone else it has no effect.",
        default=(),
    )
    json_logs: bool = _set_by("HOLDFAST_JSON_LOGS", FLAG, "Whether log lines are JSON objects.", default=False)
    count_every_seconds: float | None = _set_by(
        "HOLDFAST_COUNT_EVERY_SECONDS",
        number_or_none(1, 86_400, "seconds"),
        "Between two counts of the live sessions for `/metrics`; none leaves that number out.",
        default=60.0,
    )
    log_level: str = _set_by(
        "HOLDFAST_LOG_LEVEL",
        word("debug", "info", "warning", "error"),
        "The least important line to log.",
        default="info",
    )
    graceful_seconds: int = _set_by(
        "HOLDFAST_GRACEFUL_SECONDS",
        whole(1, 3600, "seconds"),
        "How long a stopping server waits for requests that are under way.",
        default=20,
    )
    drain_delay_seconds: float = _set_by(
        "HOLDFAST_DRAIN_DELAY_SECONDS",
        number(0, 3600, "seconds"),
        "How long a stopping server goes on serving while it is not ready, so that balancers notice.",
        default=0.0,
    )
    drain_seconds: float = _set_by(
        "HOLDFAST_DRAIN_SECONDS",
        number(0, 3600, "seconds"),
        "Over how long a stopping server closes its sockets, in random order.",
        default=5.0,
    )

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> Self:
        """Read a mapping, or the process's environment, and the secret files it names.

        Raises `InvalidArgument`, naming the variable and what is allowed but never a value, for a bad value,
        an unknown `HOLDFAST_…` name, an unreadable secret file, and settings that contradict each other.
        """
        columns = {column.metadata["variable"].name: column for column in fields(cls)}
        given = process_environment() if environment is None else environment
        values = read(given, [column.metadata["variable"] for column in columns.values()])
        settings = cls(**{columns[name].name: value for name, value in values.items()})
        settings._refuse_contradictions()
        return settings

    def stores(self) -> str | Path | TwoStores:
        """Where the sessions are: one store, or the two of a move, of which the one that has the authority serves."""
        if self._names_both and self.database_url is not None and self.sqlite_path is not None:
            return TwoStores(self.sqlite_path, self.database_url, preferred=self.database_type)
        return self._one()

    def address(self) -> str | Path:
        """The one store: an address, or the path of a SQLite file. Raises `InvalidArgument` when two are named."""
        if self._names_both:
            raise InvalidArgument(
                "DATABASE_URL and HOLDFAST_SQLITE_PATH name two stores, and this is about one: unset the other one, or "
                "say which with --sqlite or --postgres"
            )
        return self._one()

    def _one(self) -> str | Path:
        url = self.database_url
        if url is not None and (self.database_type is None or self._names_sqlite == (self.database_type == "sqlite")):
            return url
        return self.sqlite_path or _DEFAULT_SQLITE_PATH

    def store_options(self) -> StoreOptions:
        """How those stores behave."""
        return StoreOptions(
            schema=self.schema,
            deadline=self.deadline_seconds,
            connections=self.connections,
            upgrade=self.auto_upgrade,
            pooled=self.pooled,
            listen=self.listen_url,
            strict_sqlite=self.strict_sqlite,
            legacy_tz=self.legacy_tz,
        )

    def manager(self, store: Store | None = None, clock: Clock | None = None) -> SessionManager:
        """A manager with these settings, not opened: over the store they name, or over a ready-made one."""
        return SessionManager(
            self.stores() if store is None else store,
            session_ttl_hours=self.session_ttl_hours,
            idle_timeout=self.idle_timeout_seconds,
            max_lifetime=None if self.max_lifetime_hours is None else self.max_lifetime_hours * 3600,
            rotation_grace=self.rotation_grace_seconds,
            retention=self.retention_seconds,
            max_sessions_per_user=self.max_sessions_per_user,
            at_cap=self.at_cap,
            on_replay=self.on_replay,
            sweep_interval=self.sweep_interval_seconds,
            options=self.store_options() if store is None else None,
            clock=clock,
        )

    @property
    def _names_both(self) -> bool:
        return self.database_url is not None and not self._names_sqlite and self.sqlite_path is not None

    @property
    def _names_sqlite(self) -> bool:
        return self.database_url is not None and self.database_url.startswith("sqlite")

    def _refuse_contradictions(self) -> None:
        if self.database_type == "postgresql" and (self.database_url is None or self._names_sqlite):
            raise InvalidArgument(
                "SESSION_DB_TYPE=postgresql needs DATABASE_URL to be the address of a PostgreSQL database; "
                "set it, or set SESSION_DB_TYPE=sqlite"
            )
        if self._names_sqlite and self.sqlite_path is not None:
            raise InvalidArgument("DATABASE_URL and HOLDFAST_SQLITE_PATH both name a SQLite file; unset one of them")
        if set(self.application_credentials) & set(self.operator_credentials):
            raise InvalidArgument(
                "HOLDFAST_APP_TOKEN and HOLDFAST_ADMIN_TOKEN must differ, "
                "or the application could do what only the operator may"
            )

    def __repr__(self) -> str:
        """Only what differs from its default, and no secret."""
        shown = []
        for column in fields(self):
            value: Any = getattr(self, column.name)
            if value != column.default:
                hidden = column.metadata["variable"].secret
                shown.append(f"{column.name}={'hidden' if hidden else repr(value)}")
        return f"Settings({', '.join(shown)})"
