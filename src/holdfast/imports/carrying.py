"""From legacy rows to what a store takes in, counted on the way."""

from collections.abc import Iterable
from datetime import datetime

from holdfast.imports.report import Report
from holdfast.legacy.judging import SEPARATOR, Judged
from holdfast.legacy.originals import digest_of_row, original
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import LegacyRow, Quarantined
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import Record
from holdfast.sql.carried import Carried


def judge(
    rows: Iterable[LegacyRow], reader: Reader, now: datetime, report: Report, over: frozenset[bytes] = frozenset()
) -> list[Judged]:
    """What becomes of rows at a time; the report counts them. One whose digest is among those `over` stays behind."""
    found = [reader.judge(row, now, over=bool(over) and digest_of_row(row) in over) for row in rows]
    for each in found:
        report.count(each, now)
    return found


def carried(judged: Judged, now: datetime) -> Carried:
    """What a store takes in of a row that was judged at a time; a session gets a new id."""
    row, outcome = judged
    record = None
    if not isinstance(outcome, Quarantined):
        times = outcome.created_at, outcome.expires_at, outcome.last_activity
        record = Record(new_id(), outcome.user_id, outcome.metadata, 0, *times, outcome.request_count)
    kept = original(row) if judged.remarks else None
    remarks = SEPARATOR.join(judged.remarks)
    return Carried(digest_of_row(row), record, remarks, judged.is_live(now), kept, judged.owner)
