"""The SQLite library that this process runs on: which ones are too old, and which have a race."""

import logging
from typing import Final

from holdfast.sessions.errors import StoreRefused

OLDEST_SQLITE: Final = (3, 35, 0)
"""The first one that knows RETURNING."""
WAL_RESET_FIXED: Final = (3, 51, 3)
"""The first one after 3.7.0 without the WAL-reset race: a checkpoint that resets the log can lose pages of another."""

log = logging.getLogger("holdfast.sql")


def refuse_library(version: tuple[int, ...], *, strict: bool) -> None:
    """Check the SQLite library this process runs on.

    Raises `StoreRefused` for one that is too old to use, and, when strict, for one with the WAL-reset race; warns
    about the latter otherwise: Holdfast keeps its own processes off each other, but not other programs.
    """
    shown = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        raise StoreRefused(f"SQLite {shown} is too old: Holdfast needs {'.'.join(map(str, OLDEST_SQLITE))} or newer")
    if version >= WAL_RESET_FIXED:
        return
    warning = (
        f"SQLite {shown} has the WAL-reset race (3.7.0 to 3.51.2): a file that several programs write at once may be "
        f"damaged. Holdfast's own processes take turns; let no other program write the file, or use SQLite "
        f"{'.'.join(map(str, WAL_RESET_FIXED))} or newer"
    )
    if strict:
        raise StoreRefused(warning)
    log.warning("%s", warning)
