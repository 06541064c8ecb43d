"""The rows of one file as Holdfast sees them, and Holdfast's times as the old application writes them."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from holdfast.legacy.judging import OVER, Judged
from holdfast.legacy.rows import LegacyRow, OnBadExpiry, Quarantined, Readable, read_row
from holdfast.legacy.times import local_text, read_time
from holdfast.legacy.usual_rows import UsualRows
from holdfast.sql.tables import instant, since_epoch

# No zone has moved its clocks by more than this at once, but for changes of the date line.
_AROUND: Final = timedelta(hours=4)


class Reader:
    """Reads and writes what the old application writes and reads."""

    def __init__(self, zone: tzinfo, on_bad_expiry: OnBadExpiry = "quarantine") -> None:
        """The zone is the one whose local times the old application writes."""
        self._zone = zone
        self._on_bad_expiry = on_bad_expiry
        self._usual = UsualRows(zone)

    def read(self, values: Sequence[Any], now: datetime) -> Readable | None:
        """The session that a row's values are, in the order of `LegacyRow`; `None` for what is no session."""
        outcome = self._outcome(values, now)
        return outcome if isinstance(outcome, Readable) else None

    def judge(self, row: LegacyRow, now: datetime, *, over: bool = False) -> Judged:
        """What becomes of a row that is read at a time; one that is `over` is no session. Never raises."""
        return Judged(row, OVER if over else self._outcome(row, now))

    def _outcome(self, values: Sequence[Any], now: datetime) -> Readable | Quarantined:
        usual = self._usual.read(values, since_epoch(now))
        if usual is None:
            return read_row(LegacyRow(*values), self._zone, now, on_bad_expiry=self._on_bad_expiry)
        times = instant(usual.created_at), instant(usual.expires_at), instant(usual.last_activity)
        return Readable(usual.user_id, usual.metadata, *times, usual.request_count, ())

    def has_expired(self, now: datetime) -> Callable[[Any], bool]:
        """Tells of an expiry, as it was stored, whether it has passed."""

        def expired(value: Any) -> bool:
            at = read_time(value, self._zone, later=True)
            return at is not None and at <= now

        return expired

    def text(self, at: datetime) -> str:
        """An instant that has come."""
        return local_text(at, self._zone)

    def expiry(self, at: datetime) -> str:
        """An instant to come, which is never written earlier than it is."""
        return local_text(at, self._zone, up=True)

    def steady(self, now: datetime) -> str | None:
        """Now, if texts of local times compare with it as their instants do; `None` around a change of the clocks."""
        offsets = {(now + each).astimezone(self._zone).utcoffset() for each in (-_AROUND, timedelta(0), _AROUND)}
        return self.text(now) if len(offsets) == 1 else None

    def no_earlier(self, now: datetime) -> str:
        """A text that comes before none of an instant up to now."""
        return self.steady(now) or self.text(now + _AROUND)


def as_text(value: bytes) -> str | bytes:
    """How the driver gives a text back. Never raises: one bad value must not make a whole table unreadable."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
