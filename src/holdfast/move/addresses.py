"""The two stores of a move, by the addresses that somebody gave."""

import os

from holdfast.move.state import MoveRefused
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address

_ORDER = "a move goes from a SQLite file to PostgreSQL; give the two in this order"


def addresses(sqlite: str | os.PathLike[str], postgresql: str) -> tuple[SqliteAddress, PostgresqlAddress]:
    """Both. Raises `MoveRefused` unless they are a file and PostgreSQL, in this order."""
    return file_address(sqlite), database_address(postgresql)


def file_address(sqlite: str | os.PathLike[str]) -> SqliteAddress:
    """The file's. Raises `MoveRefused` for any other."""
    address = parse_address(sqlite)
    if not isinstance(address, SqliteAddress):
        raise MoveRefused(_ORDER)
    return address


def database_address(postgresql: str) -> PostgresqlAddress:
    """PostgreSQL's. Raises `MoveRefused` for any other."""
    address = parse_address(postgresql)
    if not isinstance(address, PostgresqlAddress):
        raise MoveRefused(_ORDER)
    return address
