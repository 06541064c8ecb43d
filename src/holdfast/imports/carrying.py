"""From a legacy row to what a store takes in, counted on the way."""

from datetime import datetime, tzinfo
from typing import Final

from holdfast.imports.report import SEPARATOR, Report
from holdfast.legacy.originals import digest_of_row, original, owner
from holdfast.legacy.rows import LegacyRow, OnBadExpiry, Quarantined, read_row
from holdfast.sessions.ids import new_id
from holdfast.sessions.session import Record
from holdfast.sql.carried import Carried

_OVER: Final = Quarantined(("ended or replaced in Holdfast already",), live=False)


def carried(
    row: LegacyRow, zone: tzinfo, now: datetime, on_bad_expiry: OnBadExpiry, over: frozenset[bytes], report: Report
) -> Carried:
    """What becomes of a row; the report counts it. One whose digest is among those that are `over` stays behind."""
    read = read_row(row, zone, now, on_bad_expiry=on_bad_expiry)
    outcome = _OVER if over and digest_of_row(row) in over else read
    if isinstance(outcome, Quarantined):
        report.quarantined += 1
        report.quarantined_live += outcome.live
        report.remarks.update(outcome.reasons)
        return Carried(
            digest_of_row(row), None, SEPARATOR.join(outcome.reasons), outcome.live, original(row), owner(row)
        )
    live = outcome.expires_at > now
    report.live += live
    if outcome.repairs:
        report.repaired += 1
        report.remarks.update(outcome.repairs)
    else:
        report.exact += 1
    record = Record(
        new_id(),
        outcome.user_id,
        outcome.metadata,
        0,
        outcome.created_at,
        outcome.expires_at,
        outcome.last_activity,
        outcome.request_count,
    )
    kept = original(row) if outcome.repairs else None
    return Carried(digest_of_row(row), record, SEPARATOR.join(outcome.repairs), live, kept, outcome.user_id)
