"""What a session behind `request.session` is besides its values: how long it lives, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.metadata import canonical
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Session, checked_user_id

SAVED_AT: Final = "holdfast.saved_at"
"""The key of the metadata that says when a session was last saved, in milliseconds since 1970.

It is there only where `max_age` is shorter than the manager's lifetime, which else says it. The dict never has it.
"""

EMPTIED: Final = "holdfast.emptied"
"""The key of the metadata that says that a session's last key was removed: it is over, and only has to be ended.

No store ends a session on a condition, but each sets metadata on one. So whoever removes the last key writes this,
which fails if another request has saved meanwhile. The dict never has it.
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# An extension by less than this part of it is not worth a write.
_WORTH_A_WRITE: Final = 1 / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRules:
    """Chosen once for an application."""

    max_age: int | None
    """Seconds from the last save to the end; `None` for the manager's lifetime from the last save."""
    user_key: str | None
    """The key of the dict that names the session's user; `None` when none does."""

    def span(self, policy: Policy) -> timedelta:
        """From the last save to the expiry in the store."""
        return policy.lifetime if self.max_age is None else max(policy.lifetime, timedelta(seconds=self.max_age))

    def is_extension_due(self, policy: Policy, created_at: datetime, expires_at: datetime, now: datetime) -> bool:
        """Whether a save moves the expiry by more than one percent of its span."""
        reached = now + self.span(policy)
        if policy.max_lifetime is not None:
            reached = min(reached, created_at + policy.max_lifetime)
        return reached - expires_at > self.span(policy) * _WORTH_A_WRITE

    def notes_saves(self, policy: Policy) -> bool:
        """Whether the expiry in the store comes too late for `max_age`: it can be moved later, never earlier."""
        return self.max_age is not None and timedelta(seconds=self.max_age) < policy.lifetime

    def has_outlived(self, session: Session, policy: Policy) -> bool:
        """Whether more than `max_age` lies between the last save of a session and its latest activity."""
        if self.max_age is None or not self.notes_saves(policy):
            return False
        noted = session.metadata.get(SAVED_AT)
        saved_at = noted if type(noted) is int else milliseconds(session.created_at)
        return milliseconds(session.last_activity) - saved_at > self.max_age * 1000

    def user_of(self, values: Mapping[str, Any]) -> str | None:
        """The user that the values name. Raises `InvalidArgument` for neither a string nor a whole number."""
        value = self._named(values)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise InvalidArgument(f"a user is a string or a whole number, not {type(value).__name__}")
            return checked_user_id(str(value))
        except InvalidArgument as error:
            raise InvalidArgument(
                f"request.session[{self.user_key!r}] names the session's user (user_key): {error}"
            ) from error

    def names_another(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
        """Whether somebody logged in or out. Both are in the form in which they are kept."""
        old, new = self._named(before), self._named(now)
        return canonical({"": old}) != canonical({"": new})

    def _named(self, values: Mapping[str, Any]) -> Any:
        value = None if self.user_key is None else values.get(self.user_key)
        return None if value == "" else value


def milliseconds(moment: datetime) -> int:
    """Since 1970, by whole ones."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
