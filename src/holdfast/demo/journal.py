"""What a client writes down: a line for every answer it was given. The journals are all that the results come from.

A line is a JSON object: `what` happened, to which session (its `id`, never its token), after how many `ms`,
and how many seconds after the beginning (`at`).

| what | means |
|---|---|
| created | a session began |
| opened | a socket was accepted, which validated the session once |
| echoed | a message came back, which validated the session once |
| changed | metadata was changed: `n` is its new value |
| validated | the application validated the session once |
| ended | the session was ended by the client itself |
| unknown | no answer came, or one that says so: `of` names what was asked |
| refused | the answer was that nothing was done; asked again |
| closed | the client closed its socket itself, at the end |
| dropped | the socket was closed by somebody else: `code` |
| seen | asked at the end, the session was still logged in |
| logged out | the answer was that the session is not, although nobody had ended it |
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

WRITES: Final = frozenset(("created", "opened", "echoed", "changed", "validated", "ended"))
"""What stands for an acknowledged write."""
VALIDATES: Final = frozenset(("opened", "echoed", "validated"))
"""What counts one request of the session."""
OLD_APPLICATION: Final = "old-application"
"""The name of its journal; those of clients have a number in theirs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal."""

    what: str
    id: str
    ms: float = 0.0
    at: float = 0.0
    """Seconds since the demonstration began."""
    n: int = 0
    of: str = ""
    code: int = 0


class Journal:
    """The journal of one client. What is written is the system's at once, should this process be killed."""

    def __init__(self, path: Path, began: float) -> None:
        """A new one in this file; the demonstration began at this time of the monotonic clock."""
        self._file = path.open("x", encoding="utf-8")
        self._began = began

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._file.close()

    def note(self, entry: Entry) -> None:
        """Write a line, without what it has nothing to say about."""
        entry = replace(entry, at=round(time.monotonic() - self._began, 3))
        line: dict[str, Any] = {"what": entry.what, "id": entry.id}
        line |= {name: value for name in ("ms", "at", "n", "of", "code") if (value := getattr(entry, name))}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read_journals(folder: Path) -> Iterator[tuple[str, list[Entry]]]:
    """Each client's name and its lines. Raises `ValueError` for a line that is none: nothing is passed over."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            yield path.stem, [Entry(**json.loads(line)) for line in lines]
