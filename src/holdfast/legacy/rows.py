"""What a legacy row means: a session exactly, a session with repairs, or nothing that can be carried.

Nobody who was logged in is logged out by a bad value that can be mended. `docs/reference/legacy-rows.md` lists what
becomes of each kind of value; a test compares the page with this code.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, Literal, NamedTuple

from holdfast.legacy.metadata import read_metadata
from holdfast.legacy.times import EARLY, FAR, local_text, read_time
from holdfast.sessions.tokens import MAX_CLEAR_TOKEN

OnBadExpiry = Literal["quarantine", "extend"]

MAX_COUNT: Final = 2**62
"""The largest request count that is carried: there has to be room to count on."""
_DEFAULT_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.(?!000000)\d{6})?", re.ASCII)
_EXTENDED: Final = timedelta(days=1)


class LegacyRow(NamedTuple):
    """The values of one row as the driver gives them; a text that is not UTF-8 as bytes."""

    session_id: Any
    user_id: Any
    metadata: Any
    created_at: Any
    expires_at: Any
    last_activity: Any
    request_count: Any


NAMES: Final = ", ".join(LegacyRow._fields)
"""The columns in that order, to be selected."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A session. Times are aware and in UTC."""

    user_id: str | None
    metadata: str
    """Canonical JSON."""
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    request_count: int
    repairs: tuple[str, ...]
    """What differs from the row, by column; empty when nothing does."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that no session can be made of."""

    reasons: tuple[str, ...]
    live: bool
    """Whether somebody may be logged in by it: the old application can look it up and takes it for unexpired."""


def read_row(
    row: LegacyRow,
    zone: tzinfo,
    now: datetime,
    *,
    on_bad_expiry: OnBadExpiry = "quarantine",
) -> Readable | Quarantined:
    """Read a row whose local times are of a zone, at a time. Never raises.

    An expiry that cannot be read quarantines the row, or with `extend` is a day from now.
    """
    reasons: list[str] = []
    repairs: list[str] = []
    _check_token(row.session_id, reasons)
    user_id = _user(row.user_id, reasons, repairs)
    metadata = read_metadata(row.metadata)
    repairs += [f"metadata {each}" for each in metadata.repairs]
    created, activity = _past(row, zone, now, repairs)
    expires = _expiry(row.expires_at, zone, repairs)
    if expires is None:
        if on_bad_expiry == "extend":
            expires = now + _EXTENDED
            repairs.append("expires_at is extended")
        else:
            reasons.append("expires_at is no time")
    count = _count(row.request_count, repairs)
    if reasons or expires is None:
        return Quarantined(tuple(reasons), _may_be_live(row, expires, zone, now))
    return Readable(user_id, metadata.text, created, expires, activity, count, tuple(repairs))


def _check_token(value: Any, reasons: list[str]) -> None:
    if not isinstance(value, str):
        reasons.append("session_id is NULL" if value is None else "session_id is no text")
    elif not 1 <= len(value) <= MAX_CLEAR_TOKEN:
        reasons.append("session_id is empty" if not value else "session_id is too long")
    elif "\0" in value:
        reasons.append("session_id has a NUL character")


def _user(value: Any, reasons: list[str], repairs: list[str]) -> str | None:
    if value is None:
        return None
    if isinstance(value, int | float):
        repairs.append("user_id is a number")
        return str(value)
    if not isinstance(value, str):
        reasons.append("user_id is no text")
        return None
    if "\0" in value:
        reasons.append("user_id has a NUL character")
        return None
    return value


def _past(row: LegacyRow, zone: tzinfo, now: datetime, repairs: list[str]) -> tuple[datetime, datetime]:
    """Creation and last activity, which stand in for each other and lie before now."""
    created = read_time(row.created_at, zone, later=False)
    activity = read_time(row.last_activity, zone, later=True)
    for name, value, read in (("created_at", row.created_at, created), ("last_activity", row.last_activity, activity)):
        remark = "is in the future" if read is not None and read > now else _remark(value, read, zone)
        if remark is not None:
            repairs.append(f"{name} {remark}")
    if created is None:
        created = now if activity is None else activity
    if activity is None:
        activity = created
    return min(created, now), min(activity, now)


def _expiry(value: Any, zone: tzinfo, repairs: list[str]) -> datetime | None:
    read = read_time(value, zone, later=True)
    remark = _remark(value, read, zone, up=True)
    if remark is not None and read is not None:
        repairs.append(f"expires_at {remark}")
    return read


def _remark(value: Any, read: datetime | None, zone: tzinfo, *, up: bool = False) -> str | None:
    """In what an instant differs from the stored value; `None` when writing it gives the value again."""
    if read is None:
        return "is no time"
    if read in (EARLY, FAR):
        return "is beyond reach"
    if isinstance(value, datetime) and value.tzinfo is not None:
        # PostgreSQL's are instants themselves.
        return None
    if not isinstance(value, str):
        return "is in another form"
    if local_text(read, zone, up=up) == value:
        return None
    return "is at a change of the clocks" if _DEFAULT_FORM.fullmatch(value) else "is in another form"


def _count(value: Any, repairs: list[str]) -> int:
    if isinstance(value, int) and 0 <= value <= MAX_COUNT:
        return value
    repairs.append("request_count is no count")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return min(max(int(number), 0), MAX_COUNT) if math.isfinite(number) else 0


def _may_be_live(row: LegacyRow, expires: datetime | None, zone: tzinfo, now: datetime) -> bool:
    if not isinstance(row.session_id, str) or row.expires_at is None:
        return False
    if expires is not None:
        return expires > now
    # As SQLite compares it with the text of now: a number comes before every text, a blob after it.
    if isinstance(row.expires_at, str):
        return row.expires_at > local_text(now, zone)
    return isinstance(row.expires_at, bytes)
