"""`request.session` as applications know it, and what one request has done to it.

The tracking is Starlette's: assigning, deleting and clearing are noticed, a change inside a value is not. What is
kept of a value is what JSON makes of it, as with Starlette's cookie: a tuple comes back as a list, a key that is a
number as a string.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.metadata import canonical

_SHOWN_KEY: Final = 40


class SessionDict(dict[str, Any]):
    """A dict that knows whether it was looked at and whether it was changed."""

    accessed: bool = False
    """Whether the application asked for it."""
    modified: bool = False
    """Whether a key was set or removed, were it to the same value. Without this nothing is saved."""
    cleared: bool = False
    """Whether `clear` was called since it was last saved: what the store has is over then, whoever else writes."""
    changes: int = 0
    """How often it was changed."""
    id: str | None = None
    """The session's public id, for `revoke_user_sessions(keep=…)` and device lists; `None` until it is saved."""

    def mark_accessed(self) -> None:
        """Note that the application asked for it. Starlette's `request.session` calls this."""
        self.accessed = True

    def mark_modified(self) -> None:
        """Note a change. For an application that has changed something inside a value."""
        self.accessed = True
        self.modified = True
        self.changes += 1

    def __setitem__(self, key: str, value: Any) -> None:
        self.mark_modified()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.mark_modified()
        super().__delitem__(key)

    def __ior__(self, other: Any, /) -> Self:  # type: ignore[override,misc]  # dict has two overloads
        self.mark_modified()
        return super().__ior__(other)

    def clear(self) -> None:
        """Forget everything; the session in the store ends when this is saved."""
        self.mark_modified()
        self.cleared = True
        super().clear()

    def pop(self, key: str, *default: Any) -> Any:
        """As of a dict; a change if the key is there."""
        if key in self:
            self.mark_modified()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """As of a dict."""
        item = super().popitem()
        self.mark_modified()
        return item

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As of a dict; a change if the key is not there."""
        if key not in self:
            self.mark_modified()
        return super().setdefault(key, default)

    def update(self, *others: Any, **values: Any) -> None:
        """As of a dict; always a change."""
        self.mark_modified()
        super().update(*others, **values)


@dataclass(frozen=True, slots=True)
class Changes:
    """Which keys were set, and to what, and which were removed. A change inside a value sets its key anew.

    No merge patch (RFC 7396): there a null removes and an object is merged, so neither could be set as it is.
    """

    values: Mapping[str, Any]
    removed: frozenset[str]

    @classmethod
    def between(cls, before: Mapping[str, Any], now: Mapping[str, Any]) -> Self:
        """What makes `now` of `before`. Both are in the form in which they are kept."""
        changed = {key: value for key, value in now.items() if key not in before or not _same(before[key], value)}
        return cls(changed, frozenset(before.keys() - now.keys()))

    def __bool__(self) -> bool:
        return bool(self.values or self.removed)

    def onto(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """What becomes of values that others may have changed meanwhile: all keys not named here stay."""
        kept = {key: value for key, value in current.items() if key not in self.removed}
        return {**kept, **self.values}


def kept_form(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The values as the store gives them back, independent of the originals.

    Raises `InvalidArgument`, naming the key, for a value that JSON or the store cannot hold.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        try:
            one = json.loads(json.dumps({key: value}))
            canonical(one)
        except (TypeError, ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise InvalidArgument(f"request.session[{_shown(key)}] cannot be kept: {reason}") from error
        kept.update(one)
    return kept


def kept_text(values: Mapping[str, Any]) -> str:
    """The canonical text of a whole session. Raises `InvalidArgument`, naming the largest key, beyond its limits."""
    try:
        return canonical(dict(values))
    except InvalidArgument as error:
        largest = max(values, key=lambda key: len(json.dumps(values[key])))
        raise InvalidArgument(
            f"request.session cannot be kept: {error}; the largest key is {_shown(largest)}"
        ) from error


def _same(one: Any, other: Any) -> bool:
    # As text: to Python `True` and 1 are equal.
    return canonical({"": one}) == canonical({"": other})


def _shown(key: object) -> str:
    text = repr(key)
    return text if len(text) <= _SHOWN_KEY else f"{text[:_SHOWN_KEY]}…"
