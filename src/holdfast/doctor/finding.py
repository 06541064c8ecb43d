"""One thing that was looked at: how it is, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "notice", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how grave it is, what is there, and what to do about it; `None` when nothing."""

    name: str
    level: Level
    what: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, and whether the store could be asked at all."""

    findings: Sequence[Finding]
    reachable: bool

    @property
    def healthy(self) -> bool:
        """Whether nothing is worse than a notice."""
        return all(finding.level in ("ok", "notice") for finding in self.findings)
