"""A legacy file full of odd rows and a database for them, and what a move of them has to keep."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from holdfast import SessionManager, StoreOptions
from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.store import LegacyStore
from holdfast.move.conditions import Wishes
from holdfast.move.following import FollowingStore
from holdfast.move.mover import Mover
from holdfast.move.odd_rows import list_odd
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.postgresql import PostgresqlStore
from tests.legacy.old_application import local_now, text
from tests.legacy.row_cases import CASES, PLAIN
from tests.legacy.test_odd_rows import KINDS, NOT_UTF_8
from tests.move.bench import LEASE, Place

ZONE = "Europe/Berlin"
COLUMNS = ("session_id", "user_id", "metadata", "created_at", "expires_at", "last_activity", "request_count")


@dataclass(frozen=True)
class LegacyPlace(Place):
    """The two stores of a test, the file in the legacy form."""

    def mover(self, kind: type[Mover] = Mover, **changes: Any) -> Mover:
        """As `Place.mover`, in the zone of the file."""
        changes = {"options": StoreOptions(legacy_tz=ZONE), "lease": LEASE, "rows": 20, **changes}
        return kind(str(self.path), self.address, **changes)

    def following(self) -> SessionManager:
        """A manager that follows the authority."""
        file, database = parse_address(self.path), parse_address(self.address)
        assert isinstance(file, SqliteAddress)
        assert isinstance(database, PostgresqlAddress)
        options = StoreOptions(follows=True)
        halves = LegacyStore(file, options, ZoneInfo(ZONE)), PostgresqlStore(database, options)
        return SessionManager(FollowingStore(*halves, preferred="sqlite", deadline=5.0), sweep_interval=None)

    def all_of_it(self) -> list[str]:
        """Tables, triggers and rows of the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return list(connection.iterdump())

    def bytes_of_rows(self) -> dict[Any, tuple[Any, ...]]:
        """The old application's table, byte by byte and with every value's type."""
        quoted = ", ".join(f"typeof({name}), hex({name})" for name in COLUMNS)
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(f"SELECT {quoted} FROM sessions ORDER BY {quoted}").fetchall()
        return {row[:2] if row[0] != "null" else row: row for row in rows}


def place_at(path: Path, address: str) -> Place:
    """The two stores of a test, for a process that is told no more than where they are."""
    if not has_legacy_form(path):
        return Place(path, address)
    return ForcedPlace(path, address)


class ForcedPlace(LegacyPlace):
    """With an operator who accepts all that is odd, and does not wait for the old application."""

    def mover(self, kind: type[Mover] = Mover, **changes: Any) -> Mover:
        """As `LegacyPlace.mover`."""
        found = list_odd(self.path, ZoneInfo(ZONE))
        live = 0 if found is None else found.quarantined_live
        return super().mover(kind, **{"wishes": Wishes(accept_quarantined=live, quiet=timedelta(0)), **changes})


def fill(path: Path) -> dict[str, bool]:
    """Write a row of every odd kind that the reference and the tests of the legacy form know; whether each text token
    is to be live.
    """
    now = local_now()
    later, begun = text(now + timedelta(hours=20)), text(now - timedelta(hours=4))
    tokens: dict[str, bool] = {}
    with closing(sqlite3.connect(path)) as connection, connection:

        def write(row: dict[str, Any]) -> None:
            connection.execute(f"INSERT INTO sessions VALUES ({','.join('?' * 7)})", [row[name] for name in COLUMNS])

        plain: dict[str, Any] = {
            "user_id": "u1",
            "metadata": '{"b": 1, "a": [1.5]}',
            "created_at": begun,
            "expires_at": later,
        }
        plain |= {"last_activity": begun, "request_count": 3}
        for number, kind in enumerate(KINDS):
            row = {"session_id": f"session-{number}", **plain, **kind.changes}
            write(row)
            if isinstance(row["session_id"], str):
                tokens[row["session_id"]] = kind.live
        for column, live in NOT_UTF_8:
            write({"session_id": f"session-not-utf-8-{column}", **plain})
            connection.execute(
                f"UPDATE sessions SET {column} = CAST(X'66ff' AS TEXT) WHERE session_id = ?",
                (f"session-not-utf-8-{column}",),
            )
            if column != "session_id":
                tokens[f"session-not-utf-8-{column}"] = live
        for number, case in enumerate(CASES):
            # The form has NOT NULL for times.
            if case.column == "session_id" or (case.value is None and case.column in COLUMNS[3:6]):
                continue
            row = {"session_id": f"session-case-{number}", **PLAIN._asdict()} | {"session_id": f"session-case-{number}"}
            if case.column != "expires_at":
                row["expires_at"] = later
            write({**row, case.column: case.value})
    return tokens
