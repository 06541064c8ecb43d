"""How long sessions live: the numbers every store gets when it is opened."""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, get_args

from holdfast.sessions.errors import InvalidArgument

Duration = timedelta | float
"""A length of time: a `timedelta`, or seconds."""

AtCap = Literal["refuse", "evict"]
"""What a create does when its user has as many live sessions as the cap allows."""

DEFAULT_LIFETIME: Final = timedelta(hours=24)
DEFAULT_MAX_LIFETIME: Final = timedelta(days=30)
DEFAULT_RETENTION: Final = timedelta(hours=1)
MAX_GRACE: Final = timedelta(seconds=30)
TICKET_LIFETIME: Final = timedelta(seconds=30)
# Each create under a cap counts the live sessions of its user.
MAX_CAP: Final = 10_000
# So long after the last note of a hook its process counts as gone for good, and ends are no longer kept for it.
HOOKS_EXPECTED_FOR: Final = timedelta(days=7)
# Far beyond any session and far below the year 9999, where `datetime` ends.
MAX_DURATION: Final = timedelta(days=36_525)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules by which sessions end on their own. Immutable; the same on every server of one store."""

    lifetime: timedelta = DEFAULT_LIFETIME
    """From creation to the first `expires_at`."""
    idle_timeout: timedelta | None = None
    """How long a session stays live without activity; `None` means for ever."""
    max_lifetime: timedelta | None = DEFAULT_MAX_LIFETIME
    """No extension passes `created_at` plus this; `None` means no cap."""
    rotation_grace: timedelta = timedelta(0)
    """How long the direct predecessor of a rotated token still validates (at most 30 s), and nothing else."""
    retention: timedelta = DEFAULT_RETENTION
    """How long an ended session is kept, so that `why_ended` can tell, before the sweep deletes it."""
    max_sessions: int | None = None
    """How many live sessions one user may have at any instant; `None` means any number. Nobody's have no cap."""
    at_cap: AtCap = "refuse"
    """At the cap a create is refused, or the user's oldest sessions are evicted to make room."""

    def __post_init__(self) -> None:
        cap = self.max_sessions
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_CAP):
            raise InvalidArgument(f"max_sessions_per_user is a whole number from 1 to {MAX_CAP}, or None for no cap")
        if self.at_cap not in get_args(AtCap):
            raise InvalidArgument(f"at_cap is one of {', '.join(get_args(AtCap))}")
        if self.max_lifetime is not None and self.lifetime > self.max_lifetime:
            raise InvalidArgument(
                f"the lifetime ({self.lifetime}) is longer than max_lifetime ({self.max_lifetime}); "
                "raise max_lifetime or shorten the lifetime"
            )
        if self.rotation_grace > MAX_GRACE:
            raise InvalidArgument(f"rotation_grace is at most {MAX_GRACE.seconds} seconds")

    def extension(self, hours: float) -> timedelta:
        """How far from now an extension by so many hours reaches. Raises `InvalidArgument` for a bad number."""
        by = duration(hours, "hours", unit=timedelta(hours=1), clamp=True)
        return by if self.max_lifetime is None else min(by, self.max_lifetime)


def duration(
    value: Duration,
    name: str,
    *,
    unit: timedelta = timedelta(seconds=1),
    allow_zero: bool = False,
    clamp: bool = False,
) -> timedelta:
    """A length of time from a `timedelta` or a number of units; raises `InvalidArgument`, naming the argument.

    It must be finite and positive. Beyond a hundred years it is refused, or with `clamp` taken as a hundred years.
    """
    if isinstance(value, timedelta):
        length = value
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"{name} is a number or a timedelta, not {type(value).__name__}")
    elif not abs(value) < math.inf:  # not isfinite(): an integer may be too large for a float
        raise InvalidArgument(f"{name} must be finite")
    else:
        # A plain product would overflow for numbers no calendar has.
        length = unit * min(max(value, -1), MAX_DURATION / unit + 1)
    if length < timedelta(0) or (length == timedelta(0) and not allow_zero):
        raise InvalidArgument(f"{name} must be {'zero or more' if allow_zero else 'more than zero'}")
    if length > MAX_DURATION:
        if clamp:
            return MAX_DURATION
        raise InvalidArgument(f"{name} is at most {MAX_DURATION.days} days")
    return length
