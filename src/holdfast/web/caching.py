"""What an answer tells caches once it depends on who is asking (RFC 9111; OWASP's sheet on session management)."""

from collections.abc import Sequence
from typing import Final

RawHeaders = list[tuple[bytes, bytes]]
"""The headers of an ASGI message, changed in place."""

_SHARED: Final = frozenset((b"public", b"s-maxage"))
_CLOSED: Final = frozenset((b"private", b"no-store"))


def keep_private(headers: RawHeaders, vary: Sequence[bytes]) -> None:
    """Let nobody but the visitor's own browser keep the answer, and let that one know what it depends on.

    What the application said besides stays: `max-age=60` becomes `max-age=60, private`. A qualified
    `private="name"` is about one field only and so does not count.
    """
    kept = [each for each in _taken(headers, vary) if each.partition(b"=")[0].lower() not in _SHARED]
    if _CLOSED.isdisjoint(each.lower() for each in kept):
        kept.append(b"private")
    headers.append((b"cache-control", b", ".join(kept)))


def keep_nowhere(headers: RawHeaders, vary: Sequence[bytes]) -> None:
    """Let nobody keep the answer, whatever the application said: it carries a token, or takes one away."""
    _taken(headers, vary)
    headers.append((b"cache-control", b"no-store"))


def _taken(headers: RawHeaders, vary: Sequence[bytes]) -> list[bytes]:
    """Take what the application said to caches out of the headers, and put `Vary` in order."""
    control: list[bytes] = []
    varying: list[bytes] = []
    others: RawHeaders = []
    for header in headers:
        name = header[0].lower()
        if name == b"cache-control":
            control += _items(header[1])
        elif name == b"vary":
            varying += _items(header[1])
        # What speaks to shared caches alone overrides Cache-Control there (RFC 9213), so it goes.
        elif not name.endswith(b"-cache-control") and name != b"surrogate-control":
            others.append(header)
    known = {each.lower() for each in varying}
    if b"*" not in known:
        varying += [name for name in vary if name.lower() not in known]
    if varying:
        others.append((b"vary", b", ".join(varying)))
    headers[:] = others
    return control


def _items(value: bytes) -> list[bytes]:
    return [each for part in value.split(b",") if (each := part.strip())]
