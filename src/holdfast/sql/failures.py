"""What a driver's error means: one map for both databases, and the sentences that tell what to do.

The question that decides everything is whether the database may have done it. An error *reply* says it did not;
a lost connection or a time-out after sending says nothing, and then it depends on how far the call had come.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from sqlalchemy.exc import TimeoutError as PoolTimeout

from holdfast.sessions.errors import (
    AuthorityMoved,
    HoldfastError,
    InvalidArgument,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
)

FENCE_SQLSTATE: Final = "HF001"
"""Raised by the fence trigger of a PostgreSQL store that no longer accepts writes."""


class Kind(StrEnum):
    """What to do about a failure."""

    RETRY = "retry"
    """Rolled back for certain; the same again may succeed."""
    DROP = "drop"
    """Not done for certain, and this connection is of no more use; try on a new one."""
    LOST = "lost"
    """The connection is gone or silent; whether it was done depends on how far the call had come."""
    MOVED = "moved"
    """Not done: the store does not accept writes any more."""
    FULL = "full"
    """Not done, and at once again will not help: no space, no memory, no permission to write."""
    REFUSED = "refused"
    """Not done, and waiting will not help: wrong database, missing tables, damaged file, no privileges."""
    BUSY = "busy"
    """Not sent: all connections are in use."""
    INPUT = "input"
    """Not done: a value that our own checks should have refused. A defect of Holdfast."""
    DEFECT = "defect"
    """Not done: the database refused a statement for a reason that we did not foresee."""
    BUG = "bug"
    """None of the above: it did not come from the database, and says nothing about what that did."""


WORTH_REPEATING: Final = (Kind.RETRY, Kind.DROP, Kind.LOST)
"""Failures after which the same may succeed on another connection, or in a moment."""


def pause(failures: int) -> float:
    """Seconds to wait before another attempt, after so many failures in a row: growing to half a second.

    Full jitter, so that lanes and servers do not come back together.
    """
    return random.uniform(0, min(0.5, 0.01 * 2**failures))  # noqa: S311 - it guards nothing


class NotDone(Exception):
    """A batch that was certainly not done; the driver's error is the cause."""

    def __init__(self, kind: Kind, cause: BaseException) -> None:
        """Keep what to do about it."""
        super().__init__(str(kind))
        self.kind = kind
        self.cause = cause


_LOCKED: Final = "55P03"


class LockedOut(Exception):
    """A row that was passed over because others hold it, as the server would say it had we waited."""

    sqlstate = _LOCKED


class Unknown(Exception):
    """A batch whose outcome is unknown; the driver's error is the cause."""

    def __init__(self, cause: BaseException) -> None:
        """Keep the driver's error."""
        super().__init__(str(cause))
        self.cause = cause


_RETRY: Final = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    _LOCKED,  # lock not available
    "57014",  # statement timeout
    "0A000",  # cached plan after a change of the schema
    "53300",  # too many connections
    "57P03",  # starting up or shutting down
}
_DROP: Final = {
    "25006",  # read-only: no longer the primary
    "25P03",  # idle in transaction too long
    "25P04",  # transaction too long
}
_LOST: Final = {"57P01", "57P02", "57P05", "58P01"}
_FULL: Final = {"53100", "53200", "53000", "53400", "58030"}
_REFUSED: Final = {
    "28000",  # authentication
    "28P01",  # password
    "3D000",  # no such database
    "3F000",  # no such schema
    "42501",  # no privilege
    "42P01",  # no such table
    "42703",  # no such column
    "42883",  # no such function
    "23503",  # an application's foreign key holds on to a session
    "XX001",  # data corrupted
    "XX002",  # index corrupted
}
_SQLITE: Final = {
    sqlite3.SQLITE_BUSY: Kind.RETRY,
    sqlite3.SQLITE_LOCKED: Kind.RETRY,
    sqlite3.SQLITE_FULL: Kind.FULL,
    sqlite3.SQLITE_IOERR: Kind.LOST,
    sqlite3.SQLITE_READONLY: Kind.FULL,
    sqlite3.SQLITE_CANTOPEN: Kind.FULL,
    sqlite3.SQLITE_PERM: Kind.FULL,
    sqlite3.SQLITE_AUTH: Kind.FULL,
    sqlite3.SQLITE_NOMEM: Kind.FULL,
    sqlite3.SQLITE_CORRUPT: Kind.REFUSED,
    sqlite3.SQLITE_NOTADB: Kind.REFUSED,
    sqlite3.SQLITE_SCHEMA: Kind.RETRY,
    sqlite3.SQLITE_TOOBIG: Kind.INPUT,
    sqlite3.SQLITE_MISMATCH: Kind.INPUT,
}
_KEPT: Final = ("23503", "SQLITE_CONSTRAINT_FOREIGNKEY")
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def kind_of(error: BaseException) -> Kind:
    """What to do about a driver's error, however deep SQLAlchemy wrapped it."""
    for cause in _causes(error):
        if isinstance(cause, NotDone):
            return cause.kind
        if isinstance(cause, AuthorityMoved):
            return Kind.MOVED
        if isinstance(cause, StoreRefused):
            return Kind.REFUSED
        if isinstance(cause, sqlite3.Error):
            if is_kept(cause):
                return Kind.REFUSED
            return _SQLITE.get(_sqlite_code(cause), Kind.DEFECT)
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            kind = _kind_of_sqlstate(state)
            # A fatal error ends the connection, and is no answer to what was asked.
            fatal = getattr(cause, "severity_en", None) in ("FATAL", "PANIC")
            return Kind.LOST if fatal and kind is Kind.DEFECT else kind
    for cause in _causes(error):
        if isinstance(cause, PoolTimeout):
            return Kind.BUSY
        # asyncpg's own errors carry no SQLSTATE: a value it cannot encode, a closed connection, no primary found.
        names = {each.__name__ for each in type(cause).__mro__}
        if "DataError" in names:
            return Kind.INPUT
        # Waiting brings no certificate into being, and no option into sense.
        if "ClientConfigurationError" in names:
            return Kind.REFUSED
        if isinstance(cause, OSError | TimeoutError | EOFError) or names & {"InterfaceError", "InternalClientError"}:
            return Kind.LOST
    return Kind.BUG


def is_locked_out(error: BaseException) -> bool:
    """Whether somebody else held a lock for longer than we wait for one."""
    return _state(error) == _LOCKED


def is_kept(error: BaseException) -> bool:
    """Whether an application's foreign key keeps a session from being deleted."""
    return _state(error) in _KEPT


def to_raise(error: BaseException, where: str) -> BaseException:
    """What the caller gets for a failure that is not (any more) worth another attempt; it was not done.

    A defect in our own code comes back as it is: it must be seen, not dressed up as a store that is away.
    """
    if said := next((cause for cause in _causes(error) if isinstance(cause, StoreRefused)), None):
        return said
    match kind_of(error):
        case Kind.BUG:
            return error.cause if isinstance(error, NotDone | Unknown) else error
        case Kind.MOVED:
            return AuthorityMoved(f"{where} does not accept writes any more: another store holds the authority")
        case Kind.BUSY:
            return Overloaded(f"all connections to {where} are in use; try again, or raise HOLDFAST_CONNECTIONS")
        case Kind.REFUSED:
            return StoreRefused(f"{where} cannot be used: {_advice(error)}")
        case Kind.DEFECT:
            return HoldfastError(f"{where} refused a statement of Holdfast ({_state(error)}); please report this")
        case Kind.INPUT:
            return InvalidArgument(f"{where} cannot hold a value in this call ({_state(error)}); please report this")
        case Kind.FULL:
            return StoreUnavailable(f"{where} did not take the write: {_advice(error)}")
        case _:
            return StoreUnavailable(f"{where} is not available: {_advice(error)}")


@contextmanager
def explained(where: str, only: type[Exception] = Exception) -> Iterator[None]:
    """Let the driver's failures come out as what `to_raise` says of them, and all others as they are.

    `only` is for work that may also fail at something else, as what tells of its progress does: at a closed pipe, say.
    """
    try:
        yield
    except HoldfastError:
        raise
    except only as error:
        if kind_of(error) is Kind.BUG:
            raise
        raise to_raise(error, where) from error


def _kind_of_sqlstate(state: str) -> Kind:
    if state == FENCE_SQLSTATE:
        return Kind.MOVED
    for states, kind in (
        (_RETRY, Kind.RETRY),
        (_DROP, Kind.DROP),
        (_FULL, Kind.FULL),
        (_REFUSED, Kind.REFUSED),
    ):
        if state in states:
            return kind
    if state in _LOST or state.startswith("08"):
        return Kind.LOST
    return Kind.INPUT if state.startswith("22") or state == "54001" else Kind.DEFECT


def _advice(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, HoldfastError):
            return str(cause)
        if isinstance(cause, sqlite3.Error):
            return _sqlite_advice(cause)
    return {
        "28000": "the server refuses this user; check the user name and the server's pg_hba.conf",
        "28P01": "the password is wrong; check DATABASE_URL",
        "3D000": "there is no such database; create it, or correct the address",
        "3F000": "there is no such schema; run `holdfast db upgrade`, or correct HOLDFAST_SCHEMA",
        "23503": "a foreign key of another table keeps a session; declare it ON DELETE CASCADE or SET NULL",
        "42501": "the database user lacks a privilege; grant it, or run `holdfast db upgrade` as the owner",
        "42P01": "its tables are missing; run `holdfast db upgrade`",
        "42703": "its tables are of another version; run `holdfast db upgrade`",
        "42883": "its functions are of another version; run `holdfast db upgrade`, with the version that made them",
        "53100": "its disk is full; free some space",
        "25006": "the server is read-only: a standby, or no longer the primary",
        "53300": "it has no connection left; raise its max_connections, or lower HOLDFAST_CONNECTIONS",
        "55P03": "another transaction keeps a row or a user locked; look for it in pg_stat_activity",
        "57014": "the statement took too long and was ended; look in pg_stat_activity for what it waited for",
        "57P03": "it is starting up or shutting down; try again in a moment",
        "ClientConfigurationError": "an option of its address is wrong; sslmode=verify-full needs sslrootcert, for one",
        "FileNotFoundError": "its socket, or a certificate that its address names, is not there; check the path",
        "BlockingIOError": "another process keeps writing to it, or hangs meanwhile; try again, or stop that process",
        "gaierror": "the host name does not resolve; check the address",
        "ConnectionRefusedError": "nobody listens there; check host and port, and whether the server runs",
        "TimeoutError": "it does not answer; check host and port, and the network between",
        "CancelledError": "it does not answer; check host and port, and the network between",
        "TargetServerAttributeNotMatched": "none of its hosts takes writes; give the address of the primary",
        "SSLCertVerificationError": "its certificate is not the one expected; check sslmode and sslrootcert",
    }.get(_state(error), f"{_state(error)}")


def _sqlite_advice(error: sqlite3.Error) -> str:
    code = _sqlite_code(error)
    if code in _DAMAGED:
        return "the file is damaged or not a SQLite database; restore a backup, or try `sqlite3 FILE .recover`"
    return {
        sqlite3.SQLITE_FULL: "the disk is full; free some space",
        sqlite3.SQLITE_READONLY: "the file or its directory is read-only; check their owner and mode",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check the path and the permissions of its directory",
        sqlite3.SQLITE_BUSY: "another process holds its write lock; try again, or stop that process",
        sqlite3.SQLITE_CONSTRAINT: (
            "a foreign key of another table keeps a session; declare it ON DELETE CASCADE or SET NULL"
        ),
        sqlite3.SQLITE_IOERR: "the disk answered with an error; check the file system, its free space and quotas",
    }.get(code, "SQLite answered with an error")


def _state(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(state := getattr(cause, "sqlstate", None), str):
            return state
        if isinstance(cause, sqlite3.Error):
            return getattr(cause, "sqlite_errorname", None) or "SQLITE_ERROR"
    # Only the kind of error: a driver's text may hold an address or a value.
    return type(next(reversed(list(_causes(error))))).__name__


def _sqlite_code(error: sqlite3.Error) -> int:
    # The lower byte is the primary code; the rest says more than is needed here.
    return (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, "orig", None) or getattr(current, "cause", None) or current.__cause__
