"""A row of a legacy file in three forms: as the old application wrote it, as a native one, and back. Pure.

A move compares in the native form and writes back column by column, so that what nobody changed stays as it was, byte
for byte. What a legacy row has no place for is left out of the comparison: nothing else is.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from hashlib import sha256
from typing import Any, Final, NamedTuple

from holdfast.legacy.judging import SEPARATOR, Judged
from holdfast.legacy.originals import digest_of_row, original
from holdfast.legacy.rows import LegacyRow, OnBadExpiry, Quarantined, read_row
from holdfast.legacy.times import FAR, local_text, read_time
from holdfast.legacy.usual_rows import ANY_TIME, UsualRows
from holdfast.legacy.version import version_of, version_of_encoded
from holdfast.move.rows import SESSIONS, Row
from holdfast.sessions.metadata import EMPTY
from holdfast.sessions.tokens import digest_of
from holdfast.sql.tables import instant, since_epoch

_VERSION_OF_EMPTY: Final = version_of(EMPTY)
_PLACES: Final = {name: place for place, name in enumerate(SESSIONS.forms)}


class Beside(NamedTuple):
    """What Holdfast keeps beside a legacy row."""

    session_id: str
    id: str
    digest: bytes
    previous_digest: bytes | None
    replaced_at: int | None


def note_of(judged: Judged, id: str | None, at: datetime) -> Row:
    """The row of `holdfast_imported` that keeps the original of one that is not exact; the id is its session's."""
    made = None if isinstance(judged.outcome, Quarantined) else id
    remarks = SEPARATOR.join(judged.remarks)
    return digest_of_row(judged.row), made, judged.owner, remarks, int(judged.is_live(at)), original(judged.row)


def usual_to_native(values: Sequence[Any], usual: UsualRows) -> Row | None:
    """What `to_native` makes of a usual row that was not found to be odd; `None` for one that needs `to_native`.

    The values are those of a `Beside` and a `LegacyRow`, one after the other.
    """
    session_id, id, digest, previous, replaced_at, *row = values
    read = usual.read(row, ANY_TIME)
    if read is None:
        return None
    user_id, metadata, encoded, created_at, expires_at, last_activity, count = read
    foreign = sha256(session_id.encode(errors="surrogatepass")).digest() == digest and digest_of(session_id) is None
    version = _VERSION_OF_EMPTY if metadata == EMPTY else version_of_encoded(encoded)
    mine = id, digest, previous, replaced_at, user_id, metadata, version
    return *mine, created_at, expires_at, last_activity, count, None, None, None, int(foreign)


def to_native(
    beside: Beside, row: LegacyRow, zone: tzinfo, read_at: int | None, on_bad_expiry: OnBadExpiry
) -> Row | None:
    """The session that a row is, in the native form; `None` for one that is none.

    A row that was found to be odd means what it meant when it was read, `read_at` in microseconds since 1970; what was
    exact then means the same at any time. So a row that nobody changes does not change by itself.
    """
    at = FAR if read_at is None else instant(read_at)
    read = read_row(row, zone, at, on_bad_expiry=on_bad_expiry)
    if isinstance(read, Quarantined):
        return None
    return (
        beside.id,
        beside.digest,
        beside.previous_digest,
        beside.replaced_at,
        read.user_id,
        read.metadata,
        version_of(read.metadata),
        since_epoch(read.created_at),
        since_epoch(read.expires_at),
        since_epoch(read.last_activity),
        read.request_count,
        None,
        None,
        None,
        int(_is_foreign(beside)),
    )


def of_ended(
    id: str, digest: bytes, previous: bytes | None, user_id: str | None, ended_at: int, reason: str, told: int | None
) -> Row:
    """A session that is over, of which a legacy file keeps the trace only."""
    times = ended_at, ended_at, ended_at
    return id, digest, previous, None, user_id, EMPTY, 0, *times, 0, ended_at, reason, told, 0


def says_the_same(here: Row, there: Row, zone: tzinfo) -> bool:
    """Whether a row of PostgreSQL is what is here: to the letter, or as nearly as a legacy file can say it."""
    if here == there:
        return True
    nearly = as_kept(there, zone)
    return all(ours in (theirs, kept) for ours, theirs, kept in zip(here, there, nearly, strict=True))


def as_kept(row: Row, zone: tzinfo) -> Row:
    """A native row as it is after it was written into a legacy file and read again.

    Expiries in an hour that autumn repeats become its end, other times there its second pass or its first; the version
    of the metadata becomes the one that its text has there; of an ended session only the trace is left.
    """
    value = dict(zip(SESSIONS.forms, row, strict=True))
    if value["ended_at"] is not None:
        traced = ("id", "digest", "previous_digest", "user_id", "ended_at", "end_reason", "notified_at")
        id, digest, previous, user, at, reason, told = (value[name] for name in traced)
        return of_ended(id, digest, previous, user, at, reason, told)
    value["metadata_version"] = version_of(value["metadata"])
    for name, later in (("created_at", False), ("expires_at", True), ("last_activity", True)):
        read = read_time(_local(value[name], zone, up=name == "expires_at"), zone, later=later)
        assert read is not None  # noqa: S101 - it was written a line ago
        value[name] = since_epoch(read)
    return tuple(value.values())


def to_legacy(row: Row, zone: tzinfo) -> dict[str, Any]:
    """The columns of a live session as the old application writes them, but its token."""
    value = dict(zip(SESSIONS.forms, row, strict=True))
    return {
        "user_id": value["user_id"],
        "metadata": value["metadata"],
        "created_at": _local(value["created_at"], zone),
        "expires_at": _local(value["expires_at"], zone, up=True),
        "last_activity": _local(value["last_activity"], zone),
        "request_count": value["request_count"],
    }


def changed(there: Row, here: Row, zone: tzinfo) -> dict[str, Any]:
    """The legacy columns in which a row of PostgreSQL differs from what is here; empty when nobody changed it."""
    nearly = as_kept(there, zone)
    return {
        name: text
        for name, text in to_legacy(there, zone).items()
        if here[_PLACES[name]] not in (there[_PLACES[name]], nearly[_PLACES[name]])
    }


def _is_foreign(beside: Beside) -> bool:
    """Whether the row's token is known, and of another form than Holdfast's own."""
    known = sha256(beside.session_id.encode(errors="surrogatepass")).digest() == beside.digest
    return known and digest_of(beside.session_id) is None


def _local(micro: int, zone: tzinfo, *, up: bool = False) -> str:
    return local_text(instant(micro), zone, up=up)
