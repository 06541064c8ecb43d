"""Times of legacy rows: read in the zone of whoever wrote them, and written as Python's default adapter does."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Final

from holdfast.sql.tables import EPOCH

FAR: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""What stands for every later time ("never"): no zone and no driver overflows on it."""
EARLY: Final = datetime(1, 1, 3, tzinfo=UTC)
"""What stands for every earlier time."""

_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*(Z|z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"\d{1,20}(?:\.\d{1,20})?", re.ASCII)
# Smaller numbers are no times since 1973 but dates such as 20260101, which SQLite turns into numbers by itself.
_SECONDS_FROM: Final = 1e8
_MILLISECONDS_FROM: Final = 1e11
_MILLISECONDS_BELOW: Final = 1e14
_SECOND: Final = timedelta(seconds=1)


def read_time(value: Any, zone: tzinfo, *, later: bool) -> datetime | None:
    """The instant (aware, UTC) that a stored value means; `None` for one that means none.

    A time of the clock without an offset is read in the zone. In the hour that autumn repeats it is the `later` or the
    earlier of two instants; one that spring leaves out is read with the offset before the change, which is never
    earlier than the old application took it. Beyond what can be converted it is `FAR` or `EARLY`.
    """
    if isinstance(value, datetime):
        return _instant(value, zone, later=later)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return _of_epoch(float(text))
        found = _TEXT.fullmatch(text)
        return None if found is None else _of_text(found, zone, later=later)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _of_epoch(value)
    return None


def local_text(at: datetime, zone: tzinfo, *, up: bool = False) -> str:
    """An instant as the default adapter writes it: `YYYY-MM-DD HH:MM:SS[.ffffff]` of the zone's clock.

    With `up`, as for an expiry, one in the hour that autumn repeats becomes the end of that hour: whoever reads the
    text knows not which of the two is meant, and nobody may be logged out early.
    """
    local = at.astimezone(zone)
    if up:
        first, second = _offsets(local.replace(tzinfo=None), zone)
        if first > second:
            local = _end_of_repeated(local.replace(tzinfo=None), zone, first, second)
    return local.replace(tzinfo=None).isoformat(" ")


def _of_epoch(number: float) -> datetime | None:
    if not math.isfinite(number) or not _SECONDS_FROM <= number < _MILLISECONDS_BELOW:
        return None
    if number < _MILLISECONDS_FROM:
        return EPOCH + timedelta(seconds=number)
    return EPOCH + timedelta(milliseconds=number)


def _of_text(found: re.Match[str], zone: tzinfo, *, later: bool) -> datetime | None:
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    if hour is None and offset is not None:
        return None
    microsecond = int(f"{fraction or '':0<6}"[:6])
    try:
        clock = datetime(  # noqa: DTZ001 - the naive time is what is there
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), microsecond
        )
        if offset is not None:
            clock = clock.replace(tzinfo=_fixed(offset))
    except ValueError:
        return None
    return _instant(clock, zone, later=later)


def _fixed(offset: str) -> tzinfo:
    if offset in "Zz":
        return UTC
    length = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:].lstrip(":") or 0))
    return timezone(-length if offset[0] == "-" else length)


def _instant(clock: datetime, zone: tzinfo, *, later: bool) -> datetime:
    if clock.tzinfo is None:
        first, second = _offsets(clock, zone)
        offset = second if later and first > second else first
    else:
        offset = clock.utcoffset() or timedelta()
        clock = clock.replace(tzinfo=None)
    try:
        at = (clock - offset).replace(tzinfo=UTC, fold=0)
    except OverflowError:
        return FAR if clock.year > EARLY.year else EARLY
    return min(max(at, EARLY), FAR)


def _offsets(clock: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """The offsets from UTC of a time of the clock, taken as the first and as the second of its name.

    They are equal but around a change: in the repeated hour the first is greater, in the left-out one smaller.
    """
    both = [clock.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    return both[0], both[1]


def _end_of_repeated(clock: datetime, zone: tzinfo, first: timedelta, second: timedelta) -> datetime:
    """When the clock shows for the last time what it shows twice: the change itself, by the offset before it."""
    before = (clock - first).replace(tzinfo=UTC, microsecond=0, fold=0)
    seconds = int((first - second) / _SECOND) + 1
    low, high = 0, seconds
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * _SECOND).astimezone(zone).utcoffset() == first:
            low = middle
        else:
            high = middle
    return (before + high * _SECOND).replace(tzinfo=None) + first
