"""What an operator is told of a failure of a mover: which store it comes from, and what to do."""

import sqlite3
from typing import Final, TypeVar

from holdfast.move.state import LeaseHeld, MoveRefused
from holdfast.sessions.errors import HoldfastError
from holdfast.sql.failures import NotDone, to_raise

Error = TypeVar("Error", bound=BaseException)

_UPGRADE: Final = "`holdfast db upgrade`"


def in_our_words(error: Exception) -> BaseException:
    """What an operator is told of a failure: not the driver's words, which may hold anything."""
    if isinstance(error, HoldfastError):
        return error
    if "holdfast_move" in str(error) and ("no such table" in str(error) or getattr(error, "sqlstate", "") == "42P01"):
        return LeaseHeld("another process has ended the move meanwhile; look at its status, and repeat this then")
    if getattr(error, "sqlstate", "") == "23505":
        return MoveRefused(
            "a program replaced a row of the SQLite file by another one with the same token, of which SQLite tells no "
            "trigger, and PostgreSQL has both; abort the move and start it again, then all is copied anew"
        )
    where = whose(error)
    return of_two(to_raise(error, where), where)


def of_two(error: Error, where: str) -> Error:
    """What a store says of itself alone, for whoever has named two: `db upgrade` has to be told which one is meant."""
    if isinstance(error, HoldfastError) and _UPGRADE in str(error):
        option = "--postgres ADDRESS" if where.lower() == "postgresql" else "--sqlite FILE"
        error.args = (str(error).replace(_UPGRADE, f"{_UPGRADE[:-1]} {option}`"),)
    return error


def whose(error: BaseException) -> str:
    """Which store an error comes from, for a message: there are two, and either may be meant."""
    cause = error.cause if isinstance(error, NotDone) else error
    if isinstance(cause, sqlite3.Error):
        return "the SQLite file"
    return "PostgreSQL" if isinstance(getattr(cause, "sqlstate", None), str) else "a store of the move"
