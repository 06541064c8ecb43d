"""What the clock of a zone showed, as an instant: the hour looked up, where that hour leaves no doubt.

A table of a million rows has as many times, and of a few hundred hours. What `times.read_time` finds out of each time
by the zone's rules is found out once of each hour here.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from holdfast.legacy.times import EARLY, FAR, local_text
from holdfast.sql.tables import since_epoch

_HOUR: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d)", re.ASCII)
_LAST: Final = timedelta(hours=1, microseconds=-1)
# Outside of these no zone's rules are certain, or a time is beyond what can be converted.
_YEARS: Final = range(1900, 9999)
# As many as three years have: a table whose times are all over does without.
_MOST_HOURS: Final = 26_280
_IN_HOUR: Final = {
    f":{minute:02}:{second:02}": (minute * 60 + second) * 1_000_000 for minute in range(60) for second in range(60)
}
_WHOLE_SECOND: Final = len("2026-01-31 12:00:00")
_WITH_FRACTION: Final = len("2026-01-31 12:00:00.000001")


class Hours:
    """The hours of one zone that were looked up so far."""

    def __init__(self, zone: tzinfo) -> None:
        """None are known yet."""
        self._zone = zone
        self._known: dict[str, int | None] = {}

    def microseconds(self, value: Any) -> int | None:
        """The instant of a stored time in microseconds since 1970, if it says that instant to the letter.

        An aware time does; a text does, if writing the instant gives it again. `None` for every other value, for a time
        beyond reach, and for a text of an hour in which the clocks of the zone are changed: there `read_time` knows
        more.
        """
        if type(value) is not str:
            return _of_aware(value)
        fraction = 0
        if len(value) == _WITH_FRACTION:
            digits = value[_WHOLE_SECOND + 1 :]
            if value[_WHOLE_SECOND] != "." or not (digits.isascii() and digits.isdecimal()):
                return None
            fraction = int(digits)
            if fraction == 0:
                # It is written without.
                return None
        elif len(value) != _WHOLE_SECOND:
            return None
        hour = value[:13]
        try:
            start = self._known[hour]
        except KeyError:
            start = self._learn(hour)
        past = _IN_HOUR.get(value[13:_WHOLE_SECOND])
        return None if start is None or past is None else start + past + fraction

    def _learn(self, hour: str) -> int | None:
        if len(self._known) >= _MOST_HOURS:
            self._known.clear()
        start = self._known[hour] = self._start(hour)
        return start

    def _start(self, hour: str) -> int | None:
        found = _HOUR.fullmatch(hour)
        if found is None or int(found[1]) not in _YEARS:
            return None
        try:
            clock = datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001 - the naive time is what is there
        except ValueError:
            return None
        offsets = {
            each.replace(tzinfo=self._zone, fold=fold).utcoffset() for each in (clock, clock + _LAST) for fold in (0, 1)
        }
        # A change within the hour shows in its two ends, one that reaches into it in the two ways to take an end.
        offset = offsets.pop()
        if offsets or offset is None:
            return None
        start = clock.replace(tzinfo=UTC) - offset
        # The other way round too, which asks the zone something else. What is copied and what it is compared with are
        # both read by this table: a mistake in it would be no difference.
        for at, text in ((start, f"{hour}:00:00"), (start + _LAST, f"{hour}:59:59.999999")):
            if {local_text(at, self._zone), local_text(at, self._zone, up=True)} != {text}:
                return None
        return since_epoch(start)


def _of_aware(value: Any) -> int | None:
    if type(value) is not datetime or value.tzinfo is None or not EARLY < value < FAR:
        return None
    return since_epoch(value)
