"""By whose clock the old application writes: told from its own rows, against the zone that it is said to write in.

A legacy time says nothing of its zone. But whoever writes an activity writes his own now, and the database knows the
true one: the difference is the writer's distance from UTC, whatever his settings say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from holdfast.move.state import MoveRefused

_PLAIN: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)
_QUARTER: Final = 900
"""Seconds. Every zone of today is ahead of UTC by a multiple of it."""
_NEAR: Final = 60
_FARTHEST: Final = 15 * 3600


@dataclass(frozen=True, slots=True)
class WritersClock:
    """What some writes of the old application say."""

    lead: int
    """Seconds by which its times are ahead of UTC."""
    writes: int
    seen_at: datetime
    """When the last of them was made (aware, UTC)."""

    def wrong_by(self, zone: tzinfo) -> int:
        """By how many seconds the times are ahead of those of a zone."""
        return self.lead - _ahead(zone, self.seen_at)


def seconds_ahead(activity: Any, at: float) -> float | None:
    """By how much a naive time is ahead of an instant in seconds since 1970; `None` for what is no naive time."""
    if not isinstance(activity, str) or not _PLAIN.fullmatch(activity):
        return None
    try:
        return datetime.fromisoformat(activity).replace(tzinfo=UTC).timestamp() - at
    except ValueError:
        return None


def lead_of(activity: Any, at: float) -> int | None:
    """By how many seconds the clock of a writer is ahead of UTC; `None` when the time it wrote was not its now."""
    ahead = seconds_ahead(activity, at)
    if ahead is None:
        return None
    lead = round(ahead / _QUARTER) * _QUARTER
    return lead if abs(ahead - lead) <= _NEAR and abs(lead) <= _FARTHEST else None


def objection(clocks: Sequence[WritersClock], zone: tzinfo) -> str | None:
    """What speaks against a zone, in a sentence that says what to do; `None` when nothing does.

    Single writes of another time than now, as a repair by hand makes them, do not count.
    """
    total = sum(each.writes for each in clocks)
    wrong = sorted({each.wrong_by(zone) for each in clocks if each.writes * 10 >= total})
    if not any(wrong):
        return None
    shown = " and ".join(spelt(each.lead) for each in sorted(clocks, key=lambda each: each.lead))
    if len(wrong) > 1:
        return (
            f"the old application's processes write times of different zones ({shown}), so that no reading of its rows "
            "is right; let all of them write in one zone first"
        )
    return (
        f"the old application writes times of {shown}, and {zone} is {spelt(clocks[0].lead - wrong[0])} at that time; "
        "set HOLDFAST_LEGACY_TZ to the zone that it writes in"
    )


def refuse_other_zone(clocks: Sequence[WritersClock], zone: tzinfo, *, trusted: bool) -> None:
    """Raise `MoveRefused` when the old application writes times of another zone, or of several.

    A zone that the operator vouches for is taken, as long as all writers agree with each other.
    """
    found = objection(clocks, zone)
    if found is not None and not (trusted and len({each.wrong_by(zone) for each in clocks}) == 1):
        raise MoveRefused(f"{found}. Nothing was lost; abort the move, or start it again then")


def spelt(lead: int) -> str:
    """A distance from UTC for people."""
    sign = "-" if lead < 0 else "+"
    return f"UTC{sign}{abs(lead) // 3600:02}:{abs(lead) % 3600 // 60:02}"


def is_to_come(ahead: float, zone: tzinfo, at: datetime) -> bool:
    """Whether a time that is so much ahead of UTC at an instant has not come yet in a zone."""
    return timedelta(seconds=ahead) > timedelta(seconds=_ahead(zone, at) + 2 * _NEAR)


def _ahead(zone: tzinfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
