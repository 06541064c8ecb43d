"""What an application may hang on a session, and the one form in which both databases see it.

Metadata is a JSON object. PostgreSQL's jsonb changes what it stores (1e2 becomes 100, -0.0 becomes 0.0, keys are
reordered, the last duplicate wins), SQLite keeps the text as it came. So the text is brought into one canonical
form first, chosen so that jsonb has nothing left to change:

- keys in jsonb's own order: shorter first (in UTF-8 bytes), then bytewise;
- a float with an integral value within ±2^53 is that integer (as RFC 8785 and every JavaScript client see it);
- no white space; text is not escaped where it need not be.

Reading back, an integer beyond ±2^53 can only be a large float that jsonb wrote out in full, and becomes it again.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from holdfast.sessions.errors import InvalidArgument, StoreRefused

MAX_KEYS: Final = 64
MAX_DEPTH: Final = 16
MAX_BYTES: Final = 16 * 1024
MAX_INTEGER: Final = 2**53
EMPTY: Final = "{}"


def canonical(metadata: Mapping[str, Any] | None) -> str:
    """The canonical JSON text of metadata; `None` means empty.

    Raises `InvalidArgument`, naming the place, for anything that is not a JSON object within the limits:
    64 keys at the top, depth 16, 16 KiB of canonical text, strings without NUL and lone surrogates,
    integers within ±2^53, finite floats.
    """
    if not metadata and (metadata is None or isinstance(metadata, dict)):
        return EMPTY
    if not isinstance(metadata, dict):
        raise InvalidArgument(f"metadata is an object (a dict), not {type(metadata).__name__}")
    if len(metadata) > MAX_KEYS:
        raise InvalidArgument(f"metadata has {len(metadata)} keys; at most {MAX_KEYS} are allowed")
    text = json.dumps(_checked(metadata, "metadata", 1), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_BYTES:
        raise InvalidArgument(f"metadata takes {size} bytes of JSON; at most {MAX_BYTES} are allowed")
    return text


def decode(text: str) -> dict[str, Any]:
    """The value of a stored text: a fresh dict each time, equal on every store.

    Raises `StoreRefused` for a text that is no object: another program wrote it.
    """
    if text == EMPTY:
        return {}
    try:
        value, end = _decoder.raw_decode(text)
        if end != len(text):
            # White space around it, which a canonical text has not, or more than one value.
            value = _decoder.decode(text)
    except (ValueError, TypeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StoreRefused("the stored metadata is damaged; end the session, or mend its row")
    return value


def merge(metadata: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with changes merged in after RFC 7396: a null removes, an object merges, all else replaces.

    Raises `InvalidArgument` when the changes are not an object, or nested deeper than metadata may be.
    The result is not checked; `canonical` does that.
    """
    if not isinstance(changes, dict):
        raise InvalidArgument(f"changes are an object (a dict), not {type(changes).__name__}")
    return _merged(metadata, changes, 1)


def checked_string(text: str, place: str) -> str:
    """A string that both databases can hold; raises `InvalidArgument` for NUL and lone surrogates."""
    if "\0" in text:
        raise InvalidArgument(f"{place} contains a NUL character, which PostgreSQL cannot store")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{place} contains a lone surrogate, which is not Unicode text") from error
    return text


def _checked(value: object, place: str, depth: int) -> object:
    if isinstance(value, str):
        return checked_string(value, place)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise InvalidArgument(f"{place} is an integer beyond ±2^53; send it as a string")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"{place} is not a finite number")
        return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value
    if not isinstance(value, dict | list):
        raise InvalidArgument(f"{place} is a {type(value).__name__}, which JSON does not have")
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"metadata is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return [_checked(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    for key in value:
        if not isinstance(key, str):
            raise InvalidArgument(f"{place} has a key that is not a string but {type(key).__name__}")
        checked_string(key, f"a key of {place}")
    return {key: _checked(value[key], f"{place}.{key[:40]}", depth + 1) for key in sorted(value, key=_jsonb_order)}


def _jsonb_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded


def _merged(target: object, changes: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"changes are nested deeper than {MAX_DEPTH}")
    result = dict(target) if isinstance(target, dict) else {}
    for key, change in changes.items():
        if change is None:
            result.pop(key, None)
        elif isinstance(change, dict):
            result[key] = _merged(result.get(key), change, depth + 1)
        else:
            result[key] = change
    return result


def _integer(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= MAX_INTEGER else float(number)


_decoder = json.JSONDecoder(parse_int=_integer)
