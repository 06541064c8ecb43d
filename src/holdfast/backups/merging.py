"""What a restore does to sessions, as statements for both databases. Nothing runs here.

The rule: a restore never brings back what was over. Where the store knows a session, its end, its token, its expiry and
its count stay as they are; the metadata is what the backup says. What the store does not know any more was deleted
after its retention or erased, or is lost, and nobody can tell which: it comes back only when an operator says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Delete,
    Dialect,
    Insert,
    MetaData,
    Select,
    Update,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.sql.functions import clock
from holdfast.sql.tables import Tables

RESTORED: Final = "holdfast_restored"
"""On PostgreSQL the temporary table with the backup's sessions; on SQLite the name its file is attached by."""
RESTORED_NOTES: Final = "holdfast_restored_notes"
"""On PostgreSQL the temporary table with the backup's notes of imports."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the sessions of a backup, and of the store."""

    metadata_restored: int = 0
    """Live sessions whose metadata is again what the backup says."""
    ended_again: int = 0
    """Sessions that were live here and had ended in the backup."""
    brought_back: int = 0
    """Sessions the store did not know, as they are in the backup."""
    brought_back_ended: int = 0
    """The same, but ended: nobody knows whether they ended since."""
    left_out: int = 0
    """Sessions the store does not know any more, which stay gone."""
    newer: int = 0
    """Sessions that are not in the backup; they stay as they are."""
    notes_restored: int = 0
    """Notes of imported rows that the store did not have: it takes none of them in a second time."""


class MergeStatements:
    """The statements for one schema and one backup."""

    def __init__(self, tables: Tables, columns: Sequence[str], noted: Sequence[str] = ()) -> None:
        """`columns` are those that the backup has: an earlier revision may have fewer; `noted`, those of the notes."""
        self._noted = noted
        self._tables = tables
        self._sessions = tables.sessions
        self._columns = columns
        if tables.metadata.schema is None:
            table, self._dialect = tables.sessions.to_metadata(MetaData(), schema=RESTORED), _dialect(sqlite)
            self._notes = tables.imported.to_metadata(MetaData(), schema=RESTORED)
        else:
            self._notes = tables.imported.to_metadata(MetaData(), schema=None, name=RESTORED_NOTES)  # type: ignore[arg-type]  # as below
            table = tables.sessions.to_metadata(MetaData(), schema=None, name=RESTORED)  # type: ignore[arg-type]  # None: none, says its page
            self._dialect = _dialect(postgresql)
        self._restored = table.alias("restored")

    def steps(self, *, known: bool, keep: bool) -> Iterator[tuple[str, str]]:
        """What to run in one transaction, in order: a field of `Merged`, and the statement that has its number.

        `known`: the store is the one the backup is of. `keep`: what it does not know comes back live.
        """
        yield "newer", self.text(self.newer)
        if self._noted:
            yield "notes_restored", self.text(self.notes)
        yield "ended_again", self.text(self.end_again)
        yield "metadata_restored", self.text(self.metadata)
        if keep:
            yield "brought_back", self.text(self.bring_back)
        elif known:
            yield "left_out", self.text(self.unknown)
        else:
            yield "brought_back_ended", self.text(self.bring_back_ended)

    def text(self, statement: ClauseElement) -> str:
        """A statement as the driver takes it. There are no parameters."""
        return str(statement.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))

    @property
    def newer(self) -> Select[Any]:
        """How many sessions the backup does not have."""
        there = exists().where(self._restored.c.id == self._sessions.c.id).correlate(self._sessions)
        return select(func.count()).select_from(self._sessions).where(~there)

    @property
    def notes(self) -> Insert:
        """Insert what the store does not know of imported rows, those whose sessions are gone long since among them."""
        ours, theirs = self._tables.imported, self._notes.alias("noted")
        there = exists().where(ours.c.digest == theirs.c.digest).correlate(theirs)
        columns = [theirs.c[name] for name in self._noted]
        return insert(ours).from_select(list(self._noted), select(*columns).where(~there))

    @property
    def unknown(self) -> Select[Any]:
        """How many sessions of the backup the store does not have."""
        return select(func.count()).select_from(self._restored).where(~self._here)

    @property
    def end_again(self) -> Update:
        """End the live sessions that had ended in the backup."""
        ours, theirs = self._sessions.c, self._restored.c
        return (
            update(self._sessions)
            .where(ours.id == theirs.id, ours.ended_at.is_(None), theirs.ended_at.is_not(None))
            .values(ended_at=clock(), end_reason=theirs.end_reason)
        )

    @property
    def metadata(self) -> Update:
        """Give live sessions the metadata of the backup; whoever read it before has to read it again."""
        ours, theirs = self._sessions.c, self._restored.c
        return (
            update(self._sessions)
            .where(
                ours.id == theirs.id,
                ours.ended_at.is_(None),
                ours.expires_at > clock(),
                theirs.ended_at.is_(None),
                ours.metadata.is_distinct_from(theirs.metadata),
            )
            .values(metadata=theirs.metadata, metadata_version=ours.metadata_version + 1)
        )

    @property
    def bring_back(self) -> Insert:
        """Insert the sessions that the store does not have, as the backup has them."""
        columns = [self._restored.c[name] for name in self._columns]
        return insert(self._sessions).from_select(self._columns, select(*columns).where(~self._here))

    @property
    def bring_back_ended(self) -> Insert:
        """Insert the sessions that the store does not have; those that were live end now."""
        theirs = self._restored.c
        over = {
            "ended_at": func.coalesce(theirs.ended_at, clock()),
            "end_reason": func.coalesce(theirs.end_reason, self._reason(theirs)),
        }
        columns = [over.get(name, theirs[name]) for name in self._columns]
        return insert(self._sessions).from_select(self._columns, select(*columns).where(~self._here))

    @property
    def end_everything(self) -> Update:
        """End every live session: in a store of which nobody knows what ended since."""
        ours = self._sessions.c
        return (
            update(self._sessions)
            .where(ours.ended_at.is_(None))
            .values(ended_at=clock(), end_reason=self._reason(ours))
        )

    @property
    def forget_tickets(self) -> Delete:
        """Delete all tickets: one may have been used since."""
        return delete(self._tables.tickets)

    @property
    def forget_hooks(self) -> Update:
        """Forget when a process with an end hook was last here."""
        return update(self._tables.control).where(self._tables.control.c.id == 1).values(hooks_expected_at=null())

    @property
    def _here(self) -> Any:
        return exists().where(self._sessions.c.id == self._restored.c.id).correlate(self._restored)

    @staticmethod
    def _reason(columns: Any) -> Any:
        return case((columns.expires_at <= clock(), "expired"), else_="revoked")


def _dialect(module: Any) -> Dialect:
    dialect: Dialect = module.dialect()
    return dialect
