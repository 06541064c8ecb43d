"""What the store that serves in the end holds, beside what the clients wrote down.

Nothing of what the servers or the mover said goes in here: journals on one side, rows on the other.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from holdfast.demo.journal import OLD_APPLICATION, VALIDATES, WRITES, Entry, read_journals


@dataclass(frozen=True, slots=True)
class Row:
    """A session as the store has it."""

    id: str
    request_count: int
    n: int
    live: bool
    digest: str = ""
    """SHA-256 of its token, in hexadecimal form."""


@dataclass(slots=True)
class Outcome:
    """What is said at the end. The first four are what must be 0 or else the demonstration has failed."""

    lost: int = 0
    """Acknowledged writes that the store does not have."""
    invented: int = 0
    """What the store has and nobody asked for: counts too high, sessions that came back or that no client began."""
    sockets_dropped: int = 0
    logged_out: int = 0
    sessions: int = 0
    sockets: int = 0
    acknowledged: int = 0
    by_old_application: int = 0
    """How many of them it made itself, past Holdfast."""
    refused: int = 0
    """Answers that nothing was done, after which the client asked again."""
    unknown: int = 0
    """Writes of which the client does not know whether they were made."""
    longest_wait_ms: float = 0.0
    usual_wait_ms: float = 0.0
    """Of the clients' acknowledged writes, half took at most so long."""
    old_application_wait_ms: float = 0.0
    """The longest that the old application waited for its file."""
    findings: list[str] = field(default_factory=list)
    """A sentence for each thing that is wrong."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or invented, no socket dropped and nobody logged out."""
        return not (self.lost or self.invented or self.sockets_dropped or self.logged_out or self.findings)


@dataclass(slots=True)
class _Expected:
    """What the journals say about one session."""

    owner: str
    written: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    changes: list[int] = field(default_factory=list)
    asked: int = 0
    """The highest value of a change that may have been made."""
    seen: bool = False
    visited: bool = False
    """Whether a client has used it, and has to say in the end that it is still logged in."""

    @property
    def validates(self) -> int:
        return sum(self.written[each] for each in VALIDATES)

    @property
    def maybe(self) -> int:
        return sum(self.unknown[each] for each in VALIDATES)

    @property
    def writes(self) -> int:
        return sum(self.written[each] for each in WRITES)


def compare(folder: Path, rows: Iterable[Row]) -> Outcome:
    """Read all journals in a folder and hold the rows against them."""
    return compared(dict(read_journals(folder)), list(rows))


def compared(journals: Mapping[str, Sequence[Entry]], rows: Sequence[Row]) -> Outcome:
    """The same for journals that were read."""
    ids = {f"sha256:{row.digest}": row.id for row in rows if row.digest}
    outcome, sessions, lost_creates = Outcome(), dict[str, _Expected](), 0
    waits: list[float] = []
    for name, entries in journals.items():
        opened = closed = 0
        for entry in entries:
            opened += entry.what == "opened"
            closed += entry.what == "closed"
            outcome.refused += entry.what == "refused"
            outcome.unknown += entry.what == "unknown"
            outcome.acknowledged += entry.what in WRITES
            if name == OLD_APPLICATION:
                outcome.by_old_application += entry.what in WRITES
                outcome.old_application_wait_ms = max(outcome.old_application_wait_ms, entry.ms)
            elif entry.what in WRITES or entry.what == "unknown":
                outcome.longest_wait_ms = max(outcome.longest_wait_ms, entry.ms)
                waits += [entry.ms] * (entry.what in WRITES)
            if entry.what == "logged out":
                outcome.logged_out += 1
                outcome.findings.append(f"{name} was logged out of {entry.id} when it {entry.of}")
            if entry.id == "-":
                lost_creates += entry.what == "unknown"
            else:
                id = ids.get(entry.id, entry.id)
                expected = sessions.setdefault(id, _Expected(name))
                # The old application is retired by the time of the last look; its sessions are looked up in the store.
                expected.visited |= name != OLD_APPLICATION
                _expect(expected, entry)
        outcome.sockets += opened
        outcome.sockets_dropped += opened - closed
        if opened != closed:
            codes = sorted({entry.code for entry in entries if entry.what == "dropped"})
            outcome.findings.append(f"{name} did not close {opened - closed} of its {opened} sockets itself: {codes}")
    waits.sort()
    outcome.usual_wait_ms = waits[len(waits) // 2] if waits else 0.0
    outcome.sessions = len(sessions)
    _hold(outcome, sessions, {row.id: row for row in rows}, lost_creates)
    return outcome


def _expect(expected: _Expected, entry: Entry) -> None:
    if entry.what == "unknown":
        expected.unknown[entry.of] += 1
    else:
        expected.written[entry.what] += 1
    if entry.what == "changed":
        expected.changes.append(entry.n)
    expected.asked = max(expected.asked, entry.n)
    expected.seen |= entry.what == "seen"


def _hold(outcome: Outcome, sessions: Mapping[str, _Expected], rows: Mapping[str, Row], lost_creates: int) -> None:
    for id, expected in sessions.items():
        row = rows.get(id)
        if expected.written["ended"]:
            # A store need not keep more of it than that it is over, and may have nothing any more: a legacy file keeps
            # no count of what has ended, and a sweep deletes it in time.
            if row is not None and row.live:
                _lose(outcome, 1, f"session {id} lives, although its client ended it")
            continue
        if row is None:
            _lose(outcome, expected.writes, f"the store does not know session {id} of {expected.owner}")
            continue
        missing = expected.validates - row.request_count
        if missing > 0:
            _lose(outcome, missing, f"session {id} was validated {expected.validates} times, and counts {missing} less")
        elif -missing > expected.maybe:
            _invent(outcome, -missing - expected.maybe, f"session {id} counts {-missing} requests too many")
        undone = sum(change > row.n for change in expected.changes)
        if undone:
            _lose(outcome, undone, f"session {id} has n = {row.n}, and was changed to {max(expected.changes)}")
        elif row.n > expected.asked:
            _invent(outcome, 1, f"session {id} has n = {row.n}, which nobody asked for")
        if expected.unknown["ended"]:
            continue
        if not row.live:
            outcome.logged_out += 1
            outcome.findings.append(f"session {id} of {expected.owner} is over, although nobody ended it")
        elif expected.visited and not (expected.seen or expected.written["logged out"]):
            outcome.logged_out += 1
            outcome.findings.append(f"{expected.owner} does not say that it was still logged in to {id} in the end")
    strangers = len(rows.keys() - sessions.keys())
    if strangers > lost_creates:
        _invent(outcome, strangers - lost_creates, f"the store has {strangers} sessions that no client knows")


def _lose(outcome: Outcome, writes: int, finding: str) -> None:
    outcome.lost += writes
    outcome.findings.append(finding)


def _invent(outcome: Outcome, what: int, finding: str) -> None:
    outcome.invented += what
    outcome.findings.append(finding)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """What was compared, a JSON object to a line, for those who want to do it again by themselves."""
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
