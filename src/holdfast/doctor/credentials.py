"""How strong credentials are, without ever showing them, and who can reach the server."""

from collections.abc import Iterable
from math import log2
from typing import Final

from holdfast.doctor.finding import Finding
from holdfast.sessions.errors import InvalidArgument
from holdfast.settings import Settings

_BITS: Final = 100
_WORDS: Final = ("change", "example", "secret", "password", "token", "hunter2", "1234", "holdfast", "the-value")


def credentials(settings: Settings) -> Iterable[Finding]:
    """A finding for each credential that is set."""
    for name, values in (
        ("HOLDFAST_APP_TOKEN", settings.application_credentials),
        ("HOLDFAST_ADMIN_TOKEN", settings.operator_credentials),
    ):
        for value in values:
            remedy = "make a new one: openssl rand -hex 32"
            if any(word in value.lower() for word in _WORDS):
                yield Finding(name, "warning", "it has words in it that people would guess", remedy)
            elif (bits := guessed_bits(value)) < _BITS:
                yield Finding(
                    name, "warning", f"it looks like {bits:.0f} random bits at most; {_BITS} are wanted", remedy
                )
            else:
                yield Finding(name, "ok", f"{len(value)} characters that look random")


def exposure(settings: Settings) -> Finding:
    """Whether others could reach a server that has no credentials."""
    try:
        from holdfast.server.run import check_exposure
    except ModuleNotFoundError as error:
        return Finding("exposure", "notice", f"no server here: the package {error.name} is missing")
    try:
        check_exposure(settings)
    except InvalidArgument as refusal:
        return Finding("exposure", "problem", str(refusal), "`holdfast serve` refuses to start like this")
    return Finding("exposure", "ok", f"listening on {settings.host} is safe with these credentials")


def guessed_bits(value: str) -> float:
    """At most this many bits of chance are in a text: its length times what its letters could tell apart."""
    return len(value) * log2(len(set(value))) if value else 0.0
