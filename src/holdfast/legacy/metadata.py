"""Metadata of legacy rows: from whatever text is there to the nearest that Holdfast can keep."""

import json
import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

from holdfast.sessions.metadata import EMPTY, MAX_BYTES, MAX_DEPTH, MAX_INTEGER, MAX_KEYS

MAX_KEPT_BYTES: Final = 1024 * 1024
MAX_KEPT_DEPTH: Final = 100
_EMPTY_ENCODED: Final = EMPTY.encode()
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_DIGITS: Final = len(str(MAX_INTEGER))


class Metadata(NamedTuple):
    """What a legacy value becomes."""

    text: str
    """Canonical JSON, as `holdfast.sessions.metadata` defines it."""
    repairs: tuple[str, ...]
    """In what it differs from the original; empty when it means the same."""


def read_metadata(value: Any) -> Metadata:
    """Never fails: a session is not lost for its metadata. Bytes are a text that is not UTF-8, or a blob."""
    if value is None:
        return Metadata(EMPTY, ())
    if isinstance(value, bytes):
        try:
            value, repairs = value.decode(), {"is a blob"}
        except UnicodeDecodeError:
            value, repairs = value.decode(errors="replace"), {"is not UTF-8"}
    else:
        repairs = set()
    if not isinstance(value, str):
        return Metadata(EMPTY, ("is not JSON",))
    if not value.strip():
        return Metadata(EMPTY, ("is empty",))
    return _parsed(value, repairs)


def read_usual(value: Any) -> tuple[str, bytes] | None:
    """The canonical text of metadata that means the same, and its UTF-8; `None` for all that needs `read_metadata`."""
    if value is None or value == EMPTY:
        return EMPTY, _EMPTY_ENCODED
    if type(value) is not str or len(value) > 2 * MAX_BYTES:
        return None
    try:
        parsed = _decoder.decode(value)
        if type(parsed) is not dict or len(parsed) > MAX_KEYS:
            return None
        text = _encoder.encode(_in_order(parsed, 1))
        encoded = text.encode()
    except (ValueError, RecursionError):
        return None
    # A NUL would be spelt like this; so may something else be.
    return None if len(encoded) > MAX_BYTES or "\\u0000" in text else (text, encoded)


def _parsed(text: str, repairs: set[str]) -> Metadata:
    cleaner = _Cleaner(repairs)
    try:
        parsed = json.loads(
            text, object_pairs_hook=cleaner.pairs, parse_int=cleaner.integer, parse_constant=cleaner.constant
        )
    except RecursionError:
        return Metadata(EMPTY, ("is nested too deep",))
    except ValueError:
        return Metadata(EMPTY, (*sorted(repairs), "is not JSON"))
    if not isinstance(parsed, dict):
        return Metadata(EMPTY, (*sorted(repairs), "is no object"))
    try:
        clean = cleaner.clean(parsed, 1)
    except RecursionError:
        return Metadata(EMPTY, ("is nested too deep",))
    result = json.dumps(clean, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(result.encode())
    if size > MAX_KEPT_BYTES:
        return Metadata(EMPTY, ("is larger than can be kept",))
    if len(parsed) > MAX_KEYS or size > MAX_BYTES or cleaner.depth > MAX_DEPTH:
        repairs.add("is beyond the limits")
    return Metadata(result, tuple(sorted(repairs)))


class _Cleaner:
    """Makes a parsed value canonical, and notes what it had to change."""

    def __init__(self, repairs: set[str]) -> None:
        self.repairs = repairs
        self.depth = 0

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The last of equal keys wins, as in Python and in jsonb."""
        result = dict(pairs)
        if len(result) != len(pairs):
            self.repairs.add("has a key twice")
        return result

    def integer(self, digits: str) -> int | str:
        """An integer that not every reader of JSON can hold becomes the text of its digits."""
        if len(digits) <= _DIGITS + 1 and abs(int(digits)) <= MAX_INTEGER:
            return int(digits)
        self.repairs.add("has an integer beyond 2^53")
        return digits

    def constant(self, _: str) -> None:
        """NaN and the infinities become null."""
        self.repairs.add("has a number that is none")

    def clean(self, value: Any, depth: int) -> Any:
        """The canonical form of a value at a depth."""
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                return self.constant("")
            return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value
        if not isinstance(value, dict | list):
            return value
        if depth > MAX_KEPT_DEPTH:
            raise RecursionError
        self.depth = max(self.depth, depth)
        if isinstance(value, list):
            return [self.clean(item, depth + 1) for item in value]
        pairs = self.pairs([(self._string(key), self.clean(item, depth + 1)) for key, item in value.items()])
        return dict(sorted(pairs.items(), key=lambda pair: _order(pair[0])))

    def _string(self, text: str) -> str:
        if "\0" in text:
            self.repairs.add("has a NUL character")
            text = text.replace("\0", _REPLACEMENT)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.repairs.add("has a lone surrogate")
            text = "".join(_REPLACEMENT if "\ud800" <= each <= "\udfff" else each for each in text)
        return text


def _order(key: str) -> tuple[int, bytes]:
    """As jsonb orders keys."""
    encoded = key.encode()
    return len(encoded), encoded


def _in_order(value: dict[str, Any], depth: int) -> dict[str, Any]:
    """The canonical form of an object at a depth. Raises `ValueError` for what has to be repaired, or looked at."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    return {key: _unrepaired(value[key], depth) for key in _order_of(tuple(value))}


def _unrepaired(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("too large")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError("no number")
        return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value
    if kind is dict:
        return _in_order(value, depth + 1)
    if depth >= MAX_DEPTH:
        raise ValueError("too deep")
    return [_unrepaired(item, depth + 1) for item in value]


@lru_cache(maxsize=64)
def _order_of(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Keys as jsonb orders them. An application has a few sets of them, and a row for each session."""
    return tuple(sorted(keys, key=_order))


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice")
    return result


# Made once: `json.loads` and `json.dumps` make theirs anew for each text, when they are told anything.
_decoder: Final = json.JSONDecoder(object_pairs_hook=_without_twins)
_encoder: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
