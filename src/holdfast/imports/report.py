"""What an import found: every row in exactly one class."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

SEPARATOR: Final = "; "
"""Stands between the remarks of one row."""


@dataclass(slots=True)
class Report:
    """Counts of rows."""

    exact: int = 0
    repaired: int = 0
    quarantined: int = 0
    quarantined_live: int = 0
    """Of the quarantined ones, those by which somebody may be logged in."""
    live: int = 0
    """Of the others, those that have not expired."""
    new: int = 0
    """Those that no earlier run had taken in."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Each repair and each reason for quarantine, with its rows; a row may have several."""

    def copy(self) -> "Report":
        """The same counts, to go on counting from."""
        return replace(self, remarks=self.remarks.copy())

    def withdraw(self, quarantined: bool, live: bool, remarks: str) -> None:
        """Take back what was counted for a row that is there no more, or no more as it was."""
        if quarantined:
            self.quarantined -= 1
            self.quarantined_live -= live
        else:
            self.live -= live
            if remarks:
                self.repaired -= 1
            else:
                self.exact -= 1
        self.remarks.subtract(each for each in remarks.split(SEPARATOR) if each)
        # Without those of which there is none any more.
        self.remarks = +self.remarks

    @property
    def rows(self) -> int:
        """All of them."""
        return self.exact + self.repaired + self.quarantined

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        counts = ("exact", "repaired", "quarantined", "quarantined_live", "live", "new")
        return {
            "rows": self.rows,
            **{name: getattr(self, name) for name in counts},
            "remarks": dict(self.remarks.most_common()),
        }
