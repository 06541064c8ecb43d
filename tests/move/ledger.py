"""What callers were told while their sessions moved, and what has to hold of it afterwards.

A caller notes what it asks for before it asks, and what was acknowledged when the answer has come. What was asked for
and never answered may have been done or not; everything else is exact.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from holdfast.legacy.form import has_legacy_form
from tests.move.bench import Place


@dataclass
class Known:
    """One session, as its callers know it."""

    id: str
    token: str
    user_id: str
    said: dict[str, Any]
    """Metadata that was acknowledged."""
    counted: int = 0
    """Validations that were acknowledged."""
    asked: int = 0
    """Validations that were asked for."""
    maybe_ended: bool = False
    """Whether an end was asked for."""
    ended: bool = False
    """Whether an end was acknowledged."""
    rotating: bool = False
    shared: bool = False
    """Whether an old application uses it too: nobody ends it or replaces its token."""


@dataclass
class Ledger:
    """All sessions of one store, whoever serves them."""

    sessions: dict[str, Known] = field(default_factory=dict)
    overs: Counter[str] = field(default_factory=Counter)
    """How often somebody began to end all sessions of a user."""
    overs_under_way: Counter[str] = field(default_factory=Counter)
    """How many are ending all sessions of a user at the moment."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    """How often each sort of call was acknowledged."""
    refused: Counter[str] = field(default_factory=Counter)
    """How often each sort of call was refused, and by what."""
    strangers: int = 0
    """Sessions that nobody of them made."""
    broken: list[str] = field(default_factory=list)
    """Promises that an answer broke."""

    def check_answer(self, known: Known, *, found: bool, was_ended: bool) -> None:
        """Hold a look at a session against what was known when it was asked for, and is known now."""
        if found and was_ended:
            self.broken.append(f"session {known.id} came back (I3)")
        if not found and not known.maybe_ended:
            self.broken.append(f"session {known.id} is not found although it is live (I4)")

    async def check(self, place: Place, serving: str) -> None:
        """Hold the store that serves against all that was acknowledged (I2, I3). Raises `AssertionError`."""
        assert not self.broken, self.broken
        rows, legacy = await _rows(place, serving), has_legacy_form(place.path)
        for id, known in self.sessions.items():
            row = rows.pop(id, None)
            if row is None:
                assert known.maybe_ended, f"session {id} is lost (I2)"
                continue
            count, ended, metadata = row
            # Of a session that was ended in a legacy file no count is kept.
            if not (legacy and ended):
                assert known.counted <= count <= known.asked, f"session {id} counts {count}, not {known.counted} (I2)"
            assert not (known.ended and not ended), f"session {id} came back (I3)"
            assert not (ended and not known.maybe_ended), f"session {id} was ended by nobody"
            if not known.maybe_ended:
                lost = {key for key, value in known.said.items() if metadata.get(key) != value}
                assert not lost, f"session {id} lost {lost} of its metadata (I2)"
        # A create that was refused or cut off may have been done, and nobody knows its id.
        assert len(rows) <= self.strangers + self.refused.total(), f"sessions that nobody asked for: {set(rows)}"


async def _rows(place: Place, serving: str) -> dict[str, tuple[int, bool, dict[str, Any]]]:
    """Count, whether it is over, and metadata of every session."""
    if serving == "sqlite" and has_legacy_form(place.path):
        found = place.in_sqlite(
            "SELECT i.id, s.request_count, 0, s.metadata FROM sessions s JOIN holdfast_ids i USING (session_id) "
            "UNION ALL SELECT id, 0, 1, '{}' FROM holdfast_ended"
        )
    elif serving == "sqlite":
        found = place.in_sqlite("SELECT id, request_count, ended_at IS NOT NULL, metadata FROM sessions")
    else:
        found = await place.in_postgresql(
            "SELECT replace(id::text, '-', ''), request_count, ended_at IS NOT NULL, metadata::text FROM sessions"
        )
    return {id: (count, bool(ended), json.loads(metadata)) for id, count, ended, metadata in found}
