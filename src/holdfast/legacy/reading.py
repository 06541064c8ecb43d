"""Legacy rows as Holdfast sees them, and Holdfast's times as the old application writes them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

# No zone has moved its clocks by more than this at once, but for changes of the date line.
_AROUND: Final = timedelta(hours=4)


class Read(NamedTuple):
    user_id: str | None
    metadata: str
    created_at: datetime
    expires_at: datetime
    last_activity: datetime
    request_count: int


class Reader:
    """Reads the rows of one file."""

    def __init__(self, zone: tzinfo) -> None:
        """The zone is the one whose local times the old application writes."""
        self._zone = zone
        self.text = Texts(zone)

    def read(self, values: Sequence[Any], now: datetime) -> Read | None:
        _, user, metadata, created, expires, activity, count = values
        try:
            times = [self._instant(value) for value in (created, expires, activity)]
        except (TypeError, ValueError, OverflowError):
            return None
        return Read(user, metadata or "{}", times[0], times[1], times[2], count or 0)

    def has_expired(self, now: datetime) -> Callable[[Any], bool]:
        def expired(value: Any) -> bool:
            try:
                return self._instant(value) <= now
            except (TypeError, ValueError, OverflowError):
                return False

        return expired

    def _instant(self, value: Any) -> datetime:
        return datetime.fromisoformat(value).replace(tzinfo=self._zone, fold=1).astimezone(UTC)


class Texts:
    """Instants as texts of local time, as Python's own adapter writes them."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def begun(self, at: datetime) -> str:
        """Of a creation."""
        return self._local(at)

    def activity(self, at: datetime) -> str:
        """Of an activity."""
        return self._local(at)

    def expiry(self, at: datetime) -> str:
        """Of an expiry."""
        return self._local(at)

    def steady(self, now: datetime) -> str | None:
        """Now, if texts of local times compare with it as their instants do; `None` around a change of the clocks."""
        offsets = {(now + each).astimezone(self._zone).utcoffset() for each in (-_AROUND, timedelta(0), _AROUND)}
        return self._local(now) if len(offsets) == 1 else None

    def no_earlier(self, now: datetime) -> str:
        """A text that no instant up to now comes after."""
        return self.steady(now) or self._local(now + _AROUND)

    def _local(self, at: datetime) -> str:
        return at.astimezone(self._zone).replace(tzinfo=None).isoformat(" ")


class NotText(bytes):
    """A text that is not UTF-8: kept apart from a blob, which it is not either."""


def as_text(value: bytes) -> str | NotText:
    """How the driver gives a text back. Never raises: one bad value must not make a whole table unreadable."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return NotText(value)
