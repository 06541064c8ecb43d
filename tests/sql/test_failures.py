"""What a driver's error means, and what its reader is told."""

import sqlite3

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from holdfast import (
    AuthorityMoved,
    HoldfastError,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
)
from holdfast.sql.failures import Kind, LockedOut, NotDone, Unknown, is_locked_out, kind_of, to_raise


class Reply(Exception):
    """An error reply of PostgreSQL."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("a text that may hold a value: hunter2")
        self.sqlstate = sqlstate


STATES = {
    "40001": Kind.RETRY,
    "40P01": Kind.RETRY,
    "55P03": Kind.RETRY,
    "57014": Kind.RETRY,
    "0A000": Kind.RETRY,
    "53300": Kind.RETRY,
    "57P03": Kind.RETRY,
    "25006": Kind.DROP,
    "25P03": Kind.DROP,
    "25P04": Kind.DROP,
    "57P01": Kind.LOST,
    "57P02": Kind.LOST,
    "08000": Kind.LOST,
    "08003": Kind.LOST,
    "08006": Kind.LOST,
    "08007": Kind.LOST,
    "08P01": Kind.LOST,
    "53100": Kind.FULL,
    "53200": Kind.FULL,
    "28P01": Kind.REFUSED,
    "28000": Kind.REFUSED,
    "3D000": Kind.REFUSED,
    "42501": Kind.REFUSED,
    "42P01": Kind.REFUSED,
    "XX001": Kind.REFUSED,
    "22021": Kind.INPUT,
    "22P05": Kind.INPUT,
    "54001": Kind.INPUT,
    "HF001": Kind.MOVED,
    "42601": Kind.DEFECT,
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_kind(state: str) -> None:
    """The error map of the design, 2.3, also when SQLAlchemy and a batch have wrapped the error."""
    kind = STATES[state]
    wrapped = DBAPIError("SELECT 1", {}, Reply(state))
    assert kind_of(Reply(state)) is kind
    assert kind_of(wrapped) is kind
    assert kind_of(NotDone(kind, wrapped)) is kind
    assert kind_of(Unknown(wrapped)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PoolTimeout(), Kind.BUSY),
        (TimeoutError(), Kind.LOST),
        (ConnectionRefusedError(), Kind.LOST),
        (ConnectionResetError(), Kind.LOST),
        (EOFError(), Kind.LOST),
        (asyncpg.InterfaceError("connection is closed"), Kind.LOST),
        (asyncpg.InternalClientError("out of step"), Kind.LOST),
        (asyncpg.DataError("cannot encode"), Kind.INPUT),
        (asyncpg.exceptions.TargetServerAttributeNotMatched("none"), Kind.LOST),
        (KeyError("a defect"), Kind.BUG),
        (sqlite3.OperationalError("an unknown one"), Kind.DEFECT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_without_a_state(error: Exception, kind: Kind) -> None:
    """The driver's own, the pool's and the system's errors; everything else is a defect and stays visible."""
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("state", "raised"),
    [
        ("40001", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("08006", StoreUnavailable),
        ("53100", StoreUnavailable),
        ("28P01", StoreRefused),
        ("22021", InvalidArgument),
        ("HF001", AuthorityMoved),
        ("42601", HoldfastError),
    ],
)
def test_what_the_caller_gets(state: str, raised: type[Exception]) -> None:
    """Never a driver's error, never a driver's text, and never "unknown" for what was not done."""
    error = to_raise(NotDone(kind_of(Reply(state)), Reply(state)), "the store")
    assert type(error) is raised
    assert not isinstance(error, OutcomeUnknown)
    assert "hunter2" not in str(error)
    assert str(error).startswith("the store ")


def test_a_full_pool_is_an_overload() -> None:
    """F-16: the caller may come back in a moment."""
    assert type(to_raise(PoolTimeout(), "the store")) is Overloaded


def test_a_defect_comes_back_as_it_is() -> None:
    """A defect is seen, unwrapped, and not dressed up as a store that is away."""
    defect = KeyError("a defect")
    assert to_raise(defect, "the store") is defect
    assert to_raise(NotDone(Kind.BUG, defect), "the store") is defect
    assert to_raise(Unknown(defect), "the store") is defect


def test_locks_are_told_from_other_waits() -> None:
    """55P03, from the server or of our own making, and nothing else."""
    assert is_locked_out(NotDone(Kind.RETRY, Reply("55P03")))
    assert is_locked_out(NotDone(Kind.RETRY, LockedOut()))
    assert not is_locked_out(NotDone(Kind.RETRY, Reply("40P01")))
    assert "pg_stat_activity" in str(to_raise(LockedOut(), "the store"))
