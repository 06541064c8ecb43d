"""From a legacy row to what a store takes in, counted on the way."""

import json
from datetime import datetime, tzinfo
from hashlib import sha256
from typing import Any, Final

from holdfast.imports.report import Report
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
    outcome = _OVER if over and _digest(row) in over else read
    owner = row.user_id if isinstance(row.user_id, str) and "\0" not in row.user_id else None
    if isinstance(outcome, Quarantined):
        report.quarantined += 1
        report.quarantined_live += outcome.live
        report.remarks.update(outcome.reasons)
        return Carried(_digest(row), None, "; ".join(outcome.reasons), outcome.live, original(row), owner)
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
    return Carried(_digest(row), record, "; ".join(outcome.repairs), live, kept, outcome.user_id)


def original(row: LegacyRow) -> str:
    """All but the token, so that every value and its type can be told from it: bytes are `{"hex": …}`."""
    values = {name: value for name, value in row._asdict().items() if name != "session_id"}
    return json.dumps(values, default=_plain)


def _digest(row: LegacyRow) -> bytes:
    token = row.session_id
    if isinstance(token, str):
        return sha256(token.encode(errors="surrogatepass")).digest()
    # No token that anybody could present. The prefix keeps it apart from the digest of any text.
    return sha256(b"\xff" + json.dumps(row, default=_plain).encode()).digest()


def _plain(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else str(value)
