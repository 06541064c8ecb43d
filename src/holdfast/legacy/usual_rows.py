"""Legacy rows as old applications write them, read the short way: nearly all rows of nearly all tables.

What comes out is what `read_row` makes of such a row, in the numbers that Holdfast's own tables keep; a test holds the
two against each other. Whatever is not beyond doubt here is left to `read_row`, be it odd or only unusual.
"""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from holdfast.legacy.hours import Hours
from holdfast.legacy.metadata import read_usual
from holdfast.legacy.rows import MAX_COUNT
from holdfast.legacy.times import FAR
from holdfast.sessions.tokens import MAX_CLEAR_TOKEN
from holdfast.sql.tables import since_epoch

ANY_TIME: Final = since_epoch(FAR)
"""In microseconds since 1970: what no time of a usual row is later than."""


class UsualRow(NamedTuple):
    """A session that a row is to the letter. Times are in microseconds since 1970."""

    user_id: str | None
    metadata: str
    """Canonical JSON."""
    encoded: bytes
    """The same in UTF-8."""
    created_at: int
    expires_at: int
    last_activity: int
    request_count: int


class UsualRows:
    """Reads rows whose local times are of one zone."""

    def __init__(self, zone: tzinfo) -> None:
        """The zone is the one whose local times the old application writes."""
        self._microseconds = Hours(zone).microseconds

    def read(self, values: Sequence[Any], until: int) -> UsualRow | None:
        """The session that a row's values are, in the order of `LegacyRow`; `None` for a row that needs `read_row`.

        `until` is in microseconds since 1970, when it is read: a session that begins later needs that too.
        """
        token, user_id, metadata, created, expires, activity, count = values
        if type(token) is not str or not 0 < len(token) <= MAX_CLEAR_TOKEN or "\0" in token:
            return None
        if user_id is not None and (type(user_id) is not str or "\0" in user_id):
            return None
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            return None
        created_at, expires_at = self._microseconds(created), self._microseconds(expires)
        last_activity = self._microseconds(activity)
        if created_at is None or expires_at is None or last_activity is None:
            return None
        if created_at > until or last_activity > until:
            return None
        found = read_usual(metadata)
        if found is None:
            return None
        return UsualRow(user_id, *found, created_at, expires_at, last_activity, count)
