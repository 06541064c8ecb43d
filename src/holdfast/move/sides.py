"""Which SQLite half a move has: one for Holdfast's own form, one for an application's."""

from pathlib import Path

from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.rows import OnBadExpiry
from holdfast.legacy.zone import zone_named
from holdfast.move.legacy_sqlite_side import LegacySide
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import Reached
from holdfast.sessions.store import StoreOptions


def sqlite_side(path: Path, options: StoreOptions, reached: Reached, on_bad_expiry: OnBadExpiry) -> SqliteSide:
    """The half of a file, which is looked into and not changed. Raises `InvalidArgument` for a zone there is not."""
    if has_legacy_form(path):
        return LegacySide(path, reached, zone_named(options.legacy_tz), on_bad_expiry)
    return SqliteSide(path, reached)
