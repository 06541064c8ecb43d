"""What a store that is backed up, or gets a backup back, says of itself."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Inside:
    """What a SQLite file, or a schema of PostgreSQL, is, read from it."""

    revision: str | None
    """Of Holdfast's tables; `None` when they are not there."""
    store_id: UUID | None
    """`None` before the revision that brought it, and for what is not Holdfast's."""
    authority: str | None
    """`here` while it accepts writes; `None` when it is not known: the control row is missing."""
    now: datetime
    """By the database's clock."""

    def is_still(self, seen: "Inside") -> bool:
        """Whether it is the store that was seen, as it was then. Its sessions may be others."""
        return (self.store_id, self.authority, self.revision) == (seen.store_id, seen.authority, seen.revision)
