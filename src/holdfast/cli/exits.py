"""How a command ends: five codes, and messages on standard error."""

import sys
from typing import Final, NoReturn

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
DIFFERENT: Final = 3
"""Not found, or a difference found."""
REFUSED: Final = 4
"""Refused, or not available."""


class CommandEnded(Exception):
    """A command has said everything and ends with this code."""

    def __init__(self, code: int) -> None:
        """The code, one of those above."""
        super().__init__(code)
        self.code = code


def complain(message: str) -> None:
    """A message for people, on standard error, without anything that could move a terminal's cursor."""
    shown = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in message)
    sys.stderr.write(f"holdfast: {shown}\n")


def end(code: int, message: str) -> NoReturn:
    """Say why, and end the command."""
    complain(message)
    raise CommandEnded(code)
