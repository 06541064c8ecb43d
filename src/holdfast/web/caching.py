"""What an answer tells caches once it depends on who is asking (RFC 9111; OWASP's sheet on session management)."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders

_SHARED: Final = frozenset(("public", "s-maxage"))


def keep_private(headers: MutableHeaders, vary: Sequence[str]) -> None:
    """Let nobody but the visitor's own browser keep the answer, and let that one know what it depends on.

    What the application said besides stays: `max-age=60` becomes `max-age=60, private`. A qualified
    `private="name"` is about one field only and so does not count.
    """
    given = [each.strip() for line in headers.getlist("cache-control") for each in line.split(",")]
    kept = [each for each in given if each and each.partition("=")[0].lower() not in _SHARED]
    if not {"private", "no-store"} & {each.lower() for each in kept}:
        kept.append("private")
    headers["cache-control"] = ", ".join(kept)
    _forget_targeted(headers)
    _vary(headers, vary)


def keep_nowhere(headers: MutableHeaders, vary: Sequence[str]) -> None:
    """Let nobody keep the answer, whatever the application said: it carries a token, or takes one away."""
    headers["cache-control"] = "no-store"
    _forget_targeted(headers)
    _vary(headers, vary)


def _forget_targeted(headers: MutableHeaders) -> None:
    """Drop what speaks to shared caches alone and overrides `Cache-Control` there (RFC 9213)."""
    for name in set(headers.keys()):
        if name.endswith("-cache-control") or name == "surrogate-control":
            del headers[name]


def _vary(headers: MutableHeaders, names: Sequence[str]) -> None:
    given = [each.strip() for line in headers.getlist("vary") for each in line.split(",") if each.strip()]
    known = {each.lower() for each in given}
    if names and "*" not in known:
        headers["vary"] = ", ".join([*given, *(name for name in names if name.lower() not in known)])
