"""Which rows of a legacy file are odd, and how: for `plan` and `status`. Looks, and changes nothing."""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.judging import Class, Classes
from holdfast.legacy.originals import digest_of_row
from holdfast.legacy.reading import Reader, as_text
from holdfast.legacy.rows import LegacyRow, OnBadExpiry
from holdfast.legacy.usual_rows import UsualRows
from holdfast.legacy.walking import rows_after, strange_rows
from holdfast.move.clocks import WritersClock, is_to_come, objection, seconds_ahead, spelt
from holdfast.sql.sqlite_file import reading
from holdfast.sql.tables import instant

MOST_LISTED: Final = 1000
_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class OddRow:
    """One row that is not carried as it is."""

    kind: Class
    """`repaired` or `quarantined`."""
    id: str | None
    """The session's id; `None` before Holdfast has given it one, and for what is no session."""
    digest: str
    """The first half of the SHA-256 of its token, in hexadecimal form; of the whole row when it has no token."""
    remarks: tuple[str, ...]
    """What was repaired, or why nothing can be made of it."""
    live: bool
    """Whether somebody may be logged in by it."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "class": self.kind,
            "id": self.id,
            "digest": self.digest,
            "remarks": list(self.remarks),
            "live": self.live,
        }


@dataclass(slots=True)
class LegacyRows(Classes):
    """All rows of a legacy file, each in exactly one class."""

    odd: list[OddRow] = field(default_factory=list)
    """The repaired and the quarantined ones, up to `MOST_LISTED`; quarantined ones first."""

    objection: str | None = None
    """What speaks against the zone that the rows were read in, in a sentence that says what to do."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        counts = ("rows", "exact", "repaired", "quarantined", "quarantined_live", "live")
        return {
            **{name: getattr(self, name) for name in counts},
            "objection": self.objection,
            "remarks": dict(self.remarks.most_common()),
            "odd": [each.as_json() for each in self.odd],
        }


def list_odd(
    path: Path,
    zone: tzinfo,
    *,
    on_bad_expiry: OnBadExpiry = "quarantine",
    tell: Callable[[int], None] = lambda _: None,
) -> LegacyRows | None:
    """Every row of a legacy file judged, the odd ones listed by id or digest; `None` for a file of another form.

    Changes nothing, and never reads for long: while writes go on it says of each row how it was when its turn came.
    `tell` hears now and then how many rows were looked at. Raises `StoreUnavailable` for a file that cannot be read.
    """
    if not has_legacy_form(path):
        return None
    found = LegacyRows()
    listed: dict[Class, list[OddRow]] = {"quarantined": [], "repaired": []}
    with reading(path) as driver:
        driver.text_factory = as_text
        now = driver.execute(statements.NOW).fetchone()[0]
        at, usual, reader = instant(now), UsualRows(zone), Reader(zone, on_bad_expiry)
        served, newest = statements.is_served(driver), -math.inf
        for values, has_id in _all(driver, served=served):
            # A row without an id may be one that is over.
            read = usual.read(values, now) if has_id or not served else None
            if read is not None:
                # Of its times none is to come, in this zone.
                found.exact += 1
                found.live += read.expires_at > now
            else:
                row = LegacyRow._make(values)
                id, over = _known(driver, row) if served else (None, False)
                judged = reader.judge(row, at, over=over)
                found.count(judged, at)
                newest = max(newest, seconds_ahead(row.last_activity, at.timestamp()) or -math.inf)
                if judged.remarks and len(listed[judged.kind]) < MOST_LISTED:
                    digest = digest_of_row(row)[:16].hex()
                    listed[judged.kind].append(OddRow(judged.kind, id, digest, judged.remarks, judged.is_live(at)))
            if found.rows % _EVERY == 0:
                tell(found.rows)
        found.objection = objection(_clocks(driver), zone) or _to_come(newest, zone, at)
    found.odd = [*listed["quarantined"], *listed["repaired"]][:MOST_LISTED]
    return found


def _all(driver: sqlite3.Connection, *, served: bool) -> Iterator[tuple[Sequence[Any], bool]]:
    """The values of every row, each chunk in a read of its own, and whether its session has an id."""
    yield from ((row, False) for row in strange_rows(driver))
    place: bytes | None = b""
    while place is not None:
        rows, place = rows_after(driver, place, served=served)
        yield from ((row[:-2], row[-1] is not None) for row in rows)


def _to_come(newest: float, zone: tzinfo, at: datetime) -> str | None:
    """Before a move has heard a write, all that can be told is a time that has not come yet in the zone."""
    if newest == -math.inf or not is_to_come(newest, zone, at):
        return None
    return (
        f"a row was last active at a time that has not come yet in {zone}, {spelt(int(newest))} by the clock at "
        "least; set HOLDFAST_LEGACY_TZ to the zone that the old application writes in"
    )


def _clocks(driver: sqlite3.Connection) -> list[WritersClock]:
    """What a move that is under way has heard of the old application's clock."""
    if driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'holdfast_move_clocks'").fetchone() is None:
        return []
    rows = driver.execute("SELECT lead, writes, seen_at FROM holdfast_move_clocks ORDER BY lead").fetchall()
    return [WritersClock(lead, writes, instant(seen_at)) for lead, writes, seen_at in rows]


def _known(driver: sqlite3.Connection, row: LegacyRow) -> tuple[str | None, bool]:
    """The id of a row's session, and whether that is over although the row is there."""
    if not isinstance(row.session_id, str):
        return None, False
    known = driver.execute(statements.ID_OF, (row.session_id,)).fetchone()
    if known is not None:
        return str(UUID(hex=known[0])), False
    return None, driver.execute(statements.IS_REFUSED, (digest_of_row(row),)).fetchone() is not None
