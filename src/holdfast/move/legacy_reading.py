"""What a move of a legacy file has settled once for all of its commands: it is noted in the file."""

from pathlib import Path
from typing import cast, get_args

from holdfast.legacy.rows import OnBadExpiry
from holdfast.sql.sqlite_file import reading


def settled_on_bad_expiry(path: Path) -> OnBadExpiry | None:
    """What becomes of an expiry that is no time, in the move that is under way; `None` when none has said so.

    Another answer would mean to read, and to copy, all rows anew. Raises `StoreUnavailable` and `StoreRefused` for a
    file that cannot be read.
    """
    if not path.is_file():
        return None
    with reading(path) as driver:
        names = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'holdfast_move_legacy'"
        if driver.execute(names).fetchone()[0] == 0:
            return None
        row = driver.execute("SELECT reading FROM holdfast_move_legacy WHERE id = 1").fetchone()
    said = None if row is None else row[0].rpartition(" ")[2]
    return cast("OnBadExpiry", said) if said in get_args(OnBadExpiry) else None
