"""Holdfast keeps the sessions of web applications whose users stay connected."""

from holdfast.opening import manager_from_environment, open_store
from holdfast.sessions.ends import EndHook
from holdfast.sessions.errors import (
    AuthorityMoved,
    HoldfastError,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
    TooManySessions,
)
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.process import get_session_manager
from holdfast.sessions.session import End, EndReason, NewSession, Session, WhyEnded
from holdfast.sessions.store import StoreOptions, TwoStores
from holdfast.sessions.sweeper import Swept
from holdfast.sessions.watch import Watch

# The domain does not know the databases; this is where the address of one becomes a store.
SessionManager.open_store = staticmethod(open_store)
SessionManager.from_environment = staticmethod(manager_from_environment)

__all__ = [
    "AuthorityMoved",
    "End",
    "EndHook",
    "EndReason",
    "HoldfastError",
    "InvalidArgument",
    "NewSession",
    "OutcomeUnknown",
    "Overloaded",
    "Session",
    "SessionManager",
    "StoreOptions",
    "StoreRefused",
    "StoreUnavailable",
    "Swept",
    "TooManySessions",
    "TwoStores",
    "Watch",
    "WhyEnded",
    "get_session_manager",
    "sessions_table",
]


def __getattr__(name: str) -> object:
    # Imported on demand: SQLAlchemy is slow to import, and a program that only reads types should not pay for it.
    if name == "sessions_table":
        from holdfast.sql.tables import sessions_table

        return sessions_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
