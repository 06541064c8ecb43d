"""Which SQLite files have the legacy form: found out by a look that changes nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

COLUMNS: Final = frozenset(
    {"session_id", "user_id", "metadata", "created_at", "expires_at", "last_activity", "request_count"}
)
"""What a legacy `sessions` table has; it may have more."""
_OURS: Final = "digest"


def has_legacy_form(path: Path) -> bool:
    """Whether the file has a `sessions` table of the legacy form. `False` also for a file that cannot be looked into.

    Whoever opens it finds out why, and says so.
    """
    try:
        if not path.is_file():
            return False
    except OSError:
        return False
    for mode in ("ro", "rw"):
        # Read-only it cannot be read when another program died while it wrote: then the next one to open it puts it
        # right, as the old application would.
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=2.0)) as driver:
                names = {row[1].lower() for row in driver.execute("PRAGMA table_info('sessions')")}
                statement = "SELECT type FROM sqlite_master WHERE lower(name) = 'sessions'"
                found = driver.execute(statement).fetchone()
        except sqlite3.Error:
            continue
        return found == ("table",) and names >= COLUMNS and _OURS not in names
    return False
