"""Which SQLite half a move has: one for Holdfast's own form, one for an application's."""

from pathlib import Path

from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.rows import OnBadExpiry
from holdfast.legacy.zone import zone_named
from holdfast.move.legacy_reading import settled_on_bad_expiry
from holdfast.move.legacy_sqlite_side import LegacySide
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import Reached
from holdfast.sessions.store import StoreOptions


def sqlite_side(path: Path, options: StoreOptions, reached: Reached, on_bad_expiry: OnBadExpiry) -> SqliteSide:
    """The half of a file, which is looked into and not changed. Raises `InvalidArgument` for a zone there is not.

    What a move that is under way has settled of expiries that are no time holds for all who take part in it.
    """
    if has_legacy_form(path):
        settled = settled_on_bad_expiry(path)
        return LegacySide(path, reached, zone_named(options.legacy_tz), settled or on_bad_expiry)
    return SqliteSide(path, reached)
