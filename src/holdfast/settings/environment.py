"""From an environment to values: names, secret files, and refusals that never repeat a value.

An empty variable counts as one that is not set, because that is how compose files leave things out.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.sessions.errors import InvalidArgument
from holdfast.settings.kinds import Kind

Environment = Mapping[str, str | None]

# Names that belong to this project's own tests and benchmarks, never to a running server.
_OTHERS: Final = ("HOLDFAST_TEST_", "HOLDFAST_BENCH_")


class Variable(NamedTuple):
    """One environment variable: name, kind, a sentence about it, and whether it must never be shown."""

    name: str
    kind: Kind
    sentence: str
    secret: bool = False

    @property
    def file_names(self) -> tuple[str, ...]:
        """The variables that may name a file with the value instead. None for what is not secret."""
        if not self.secret:
            return ()
        plain = f"{self.name}_FILE"
        return (plain,) if self.name.startswith("HOLDFAST_") else (plain, f"HOLDFAST_{plain}")


def process_environment(fallback: Environment | None = None) -> dict[str, str | None]:
    """The process's environment over a fallback such as the contents of `.env`: the environment wins."""
    return {**(fallback or {}), **os.environ}  # noqa: TID251 - the one place that reads it


def read(environment: Environment, variables: Iterable[Variable]) -> dict[str, Any]:
    """The values of those variables that are set, by name.

    Raises `InvalidArgument` for a bad value, an unknown `HOLDFAST_…` name, and an unreadable secret file.
    """
    given = {name: text for name, text in environment.items() if text}
    known = list(variables)
    _refuse_unknown(given, known)
    values = {}
    for variable in known:
        text = _from_file(variable, given)
        if text is None:
            text = given.get(variable.name)
        if text is not None:
            values[variable.name] = _parsed(variable, text)
    return values


def _parsed(variable: Variable, text: str) -> Any:
    try:
        return variable.kind.parse(text.strip())
    except (ValueError, KeyError):
        # Not chained: the cause would repeat the value.
        message = f"{variable.name} has a value that is not allowed; it takes {variable.kind.allowed}"
        raise InvalidArgument(message) from None


def _from_file(variable: Variable, given: Mapping[str, str]) -> str | None:
    """The value from its file; `None` when no file is named."""
    named = [name for name in variable.file_names if name in given]
    if not named:
        return None
    ways = [name for name in (variable.name, *variable.file_names) if name in given]
    if len(ways) > 1:
        raise InvalidArgument(f"{' and '.join(ways)} are both set and say the same thing; unset one of them")
    try:
        text = Path(given[named[0]]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidArgument(f"{named[0]} names a file that cannot be read: {reason}") from None
    if not text:
        raise InvalidArgument(f"{named[0]} names an empty file; write the value into it, or unset {named[0]}")
    return text


def _refuse_unknown(given: Mapping[str, str], variables: Iterable[Variable]) -> None:
    known = [name for variable in variables for name in (variable.name, *variable.file_names)]
    for name in sorted(given):
        if name.startswith("HOLDFAST_") and not name.startswith(_OTHERS) and name not in known:
            # Without the prefix, which would make every name resemble every other one.
            near = difflib.get_close_matches(_stem(name), [_stem(each) for each in known], n=1)
            meant = next((each for each in known if near and _stem(each) == near[0]), None)
            hint = f"; did you mean {meant}?" if meant else ""
            raise InvalidArgument(f"{name} is not a setting{hint}")


def _stem(name: str) -> str:
    return name.removeprefix("HOLDFAST_")
