"""What a session is, once more, in plain values: the model that `machine` compares stores with.

It knows nothing of how a store works, and shares no rule with `MemoryStore` or the domain: a rule that is wrong there
would be wrong here. Time is counted in whole minutes from the beginning of a run.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from holdfast.sessions.session import EndReason, Session

LIFETIME, IDLE, CAP, RETENTION = 60, 25, 150, 30
"""The policy of every run, in minutes."""


@dataclass
class ModelSession:
    """What the model knows of one session."""

    id: str
    user: str | None
    metadata: dict[str, Any]
    created: int
    expires: float
    active: int
    token: str
    predecessor: str | None = None
    """The token before the present one, which says that it was replaced."""
    count: int = 0
    reason: EndReason | None = None
    """`None` until the end is made, or noted by a sweep."""
    ended: int = 0
    past: list[str] = field(default_factory=list)
    """Every token it ever had but the present one."""

    def is_live(self, now: int) -> bool:
        """Not ended, not expired, not idle."""
        return self.reason is None and now < min(self.expires, self.active + IDLE)

    def end_of(self) -> EndReason:
        """Why a session that is not live ended."""
        if self.reason is not None:
            return self.reason
        return "idle" if self.active + IDLE < self.expires else "expired"

    def check(self, session: Session) -> None:
        """Compare an answer with what it should have been."""
        assert (session.id, session.user_id, session.metadata) == (self.id, self.user, self.metadata)
        assert session.request_count == self.count
        lifetime, active = session.expires_at - session.created_at, session.last_activity - session.created_at
        # Both are differences of two readings of a clock that ticks: right to within the minute.
        assert abs(lifetime - timedelta(minutes=self.expires - self.created)) < timedelta(minutes=1)
        assert abs(active - timedelta(minutes=self.active - self.created)) < timedelta(minutes=1)


def merged(target: Any, patch: Any) -> Any:
    """The algorithm of RFC 7396, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
