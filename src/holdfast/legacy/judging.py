"""What becomes of legacy rows, one by one and counted: for an import, and for a move."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, NamedTuple

from holdfast.legacy.originals import owner
from holdfast.legacy.rows import LegacyRow, Quarantined, Readable

Class = Literal["exact", "repaired", "quarantined"]

OVER: Final = Quarantined(("ended or replaced in Holdfast already",), live=False)
"""What becomes of a row that the old application wrote again after its end: nothing makes it a session once more."""

SEPARATOR: Final = "; "
"""Stands between the remarks of one row where they are kept as one text."""


class Judged(NamedTuple):
    """A row, and what becomes of it."""

    row: LegacyRow
    outcome: Readable | Quarantined

    @property
    def kind(self) -> Class:
        """Its class. Every row is in exactly one."""
        if isinstance(self.outcome, Quarantined):
            return "quarantined"
        return "repaired" if self.outcome.repairs else "exact"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was repaired, or why nothing can be made of it; empty for an exact row."""
        return self.outcome.reasons if isinstance(self.outcome, Quarantined) else self.outcome.repairs

    @property
    def owner(self) -> str | None:
        """Whose it is, as far as that can be told; an erase of the user empties what is kept of the row."""
        return owner(self.row) if isinstance(self.outcome, Quarantined) else self.outcome.user_id

    def is_live(self, at: datetime) -> bool:
        """Whether somebody may be logged in by it."""
        return self.outcome.live if isinstance(self.outcome, Quarantined) else self.outcome.expires_at > at


@dataclass(slots=True)
class Classes:
    """How many rows are in each class."""

    exact: int = 0
    repaired: int = 0
    quarantined: int = 0
    quarantined_live: int = 0
    """Quarantined rows by which somebody may be logged in: whoever leaves them behind has to say this number."""
    live: int = 0
    """Exact and repaired rows that have not expired."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Each repair and each reason for quarantine, with its rows; a row may have several."""

    @property
    def rows(self) -> int:
        """All of them."""
        return self.exact + self.repaired + self.quarantined

    def count(self, judged: Judged, at: datetime) -> None:
        """Count one more; `at` decides whether it has expired."""
        live, remarks = judged.is_live(at), judged.remarks
        if judged.kind == "quarantined":
            self.quarantined += 1
            self.quarantined_live += live
        else:
            self.live += live
            if remarks:
                self.repaired += 1
            else:
                self.exact += 1
        if remarks:
            self.remarks.update(remarks)
