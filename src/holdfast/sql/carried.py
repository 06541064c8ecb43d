"""A row of an application's own table, as a store takes it in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from holdfast.sessions.session import Record
from holdfast.sql.import_statements import ImportStatements


class Carried(NamedTuple):
    """What the row became, and what is kept of it."""

    digest: bytes
    """Of its token; of the whole row when it has none."""
    record: Record | None
    """The session; `None` when the row is quarantined."""
    remarks: str
    """Repairs, or why not; empty for an exact row."""
    live: bool
    """Whether somebody may be logged in by it."""
    original: str | None
    """JSON of all but the token; `None` for an exact row."""
    user_id: str | None
    """Whose it is, as far as that can be told: an erase of the user empties what is kept."""

    def note(self) -> dict[str, Any]:
        """The values of the note that it was imported."""
        return {
            "row_digest": self.digest,
            "row_id": None if self.record is None else self.record.id,
            "row_user": self.user_id,
            "row_remarks": self.remarks,
            "row_live": self.live,
            "row_original": self.original,
        }

    def session(self) -> dict[str, Any]:
        """The values of its session, which it has."""
        record = self.record
        assert record is not None  # noqa: S101 - the caller has looked
        return {
            "row_id": record.id,
            "row_digest": self.digest,
            "row_user": record.user_id,
            "row_metadata": record.metadata,
            "row_created_at": record.created_at,
            "row_expires_at": record.expires_at,
            "row_last_activity": record.last_activity,
            "row_request_count": record.request_count,
        }


def take_in(connection: Connection, statements: ImportStatements, rows: Sequence[Carried]) -> int:
    """Note rows and make their sessions, within a transaction; how many were new. No digest may come twice in them.

    A row that was taken in before is passed over, whatever became of its session.
    """
    dialect = connection.dialect.name
    note, insert = statements.note_imported(dialect), statements.carry(dialect)
    new = set(connection.scalars(note, [each.note() for each in rows]))
    sessions = [each.session() for each in rows if each.record is not None and each.digest in new]
    if sessions:
        connection.execute(insert, sessions)
    return len(new)
