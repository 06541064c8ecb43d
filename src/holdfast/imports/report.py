"""What an import found: every row in exactly one class."""

from dataclasses import dataclass, replace
from typing import Any

from holdfast.legacy.judging import SEPARATOR, Classes


@dataclass(slots=True)
class Report(Classes):
    """Counts of rows."""

    new: int = 0
    """Those that no earlier run had taken in."""

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

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        counts = ("rows", "exact", "repaired", "quarantined", "quarantined_live", "live", "new")
        return {**{name: getattr(self, name) for name in counts}, "remarks": dict(self.remarks.most_common())}
