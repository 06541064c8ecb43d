"""The pure transform of a legacy row: whatever is in it, it goes there and back without a change."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.legacy.originals import original
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import LegacyRow
from holdfast.legacy.times import local_text
from holdfast.move.clocks import WritersClock, lead_of, objection
from holdfast.move.legacy_rows import Beside, as_kept, changed, note_of, says_the_same, to_legacy, to_native
from holdfast.move.rows import SESSIONS, Row
from holdfast.sessions.metadata import canonical
from holdfast.sql.tables import EPOCH, instant, microseconds

ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")
]
TOKEN = "session-1"
BESIDE = Beside(TOKEN, "0" * 32, sha256(TOKEN.encode()).digest(), None, None)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

zones = st.sampled_from(ZONES)
# Around the changes of the clocks of all those zones, where it matters.
instants = st.one_of(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 - naive bounds are wanted
        lambda at: at.replace(tzinfo=UTC)
    ),
    st.tuples(
        st.sampled_from([datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]),
        st.timedeltas(timedelta(hours=-3), timedelta(hours=3)),
    ).map(lambda both: both[0] + both[1]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
anything = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary())
times = st.one_of(
    anything,
    st.tuples(instants, zones).map(lambda both: local_text(*both)),
    st.sampled_from(["9999-12-31 23:59:59.999999", "0001-01-01 00:00:00", "2026-06-16T08:00:00Z", "1781600000.5"]),
)
rows = st.builds(
    LegacyRow,
    st.one_of(st.just(TOKEN), anything),
    st.one_of(st.text(), anything),
    st.one_of(st.dictionaries(st.text(), json_values, max_size=4).map(json.dumps), anything),
    times,
    times,
    times,
    st.one_of(st.integers(0, 10), anything),
)


def native(row: LegacyRow, zone: ZoneInfo, at: datetime) -> Row | None:
    """The row as a move reads it at a time."""
    judged = Reader(zone).judge(row, at)
    read_at = microseconds(at - EPOCH) if judged.remarks else None
    return to_native(BESIDE, row, zone, read_at, "quarantine")


@given(rows, zones)
def test_every_row_is_in_one_class_and_keeps_what_it_was(row: LegacyRow, zone: ZoneInfo) -> None:
    """Move 29: nothing raises, what is not exact has its reasons and its original, what is exact stays so."""
    judged = Reader(zone).judge(row, NOW)
    assert (judged.kind == "exact") == (not judged.remarks)
    assert json.loads(original(row)).keys() == set(LegacyRow._fields) - {"session_id"}
    assert len(note_of(judged, None, NOW)) == 6
    read = native(row, zone, NOW)
    assert judged.kind == "quarantined" or read is not None
    if judged.kind == "exact":
        assert read == native(row, zone, NOW + timedelta(days=400))


@given(rows, zones)
def test_an_untouched_row_has_nothing_to_be_written_back(row: LegacyRow, zone: ZoneInfo) -> None:
    """Move 32, 35: a row that comes back from PostgreSQL as it went there differs in no column."""
    read = native(row, zone, NOW)
    if read is not None:
        assert changed(SESSIONS.to_sqlite(through_postgresql(read)), read, zone) == {}
        assert says_the_same(read, SESSIONS.to_sqlite(through_postgresql(read)), zone)


@given(
    st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)),
    st.dictionaries(st.sampled_from("abc"), st.integers(-5, 5) | st.floats(-1e9, 1e9), max_size=3),
    st.lists(instants, min_size=3, max_size=3),
    zones,
)
def test_a_session_made_there_is_read_here_as_nearly_as_can_be(
    user: str | None, metadata: dict[str, Any], at: list[datetime], zone: ZoneInfo
) -> None:
    """Move 33, 34: written as the old application writes, it means the same; an expiry is never earlier."""
    created, activity, expires = (microseconds(each - EPOCH) for each in sorted(at))
    there: Row = (
        *(BESIDE.id, BESIDE.digest, None, None, user, canonical(metadata), 7),
        *(created, expires, activity, 3, None, None, None, 0),
    )
    here = native(LegacyRow(session_id=TOKEN, **to_legacy(there, zone)), zone, datetime(2041, 1, 1, tzinfo=UTC))
    assert here is not None
    assert here[:6] == there[:6]
    assert here[8] >= expires
    # From the first minute of an hour that comes twice to the end of its second pass.
    assert here[8] - expires <= 7_200_000_000
    wanted = as_kept(there, zone)
    assert here[:14] == wanted[:14]
    assert says_the_same((*here[:14], 0), there, zone)
    assert instant(here[8]) >= instant(expires)


def through_postgresql(row: Row) -> list[Any]:
    """The values that PostgreSQL gives back."""
    return [values[0] for values in SESSIONS.to_postgresql([row])]


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("month", [1, 7])
def test_a_writers_clock_is_told_from_what_it_writes(zone: ZoneInfo, month: int) -> None:
    """Move 33: the zone of a writer passes, in summer and in winter; every other one, and UTC, is named."""
    at = datetime(2026, month, 15, 12, tzinfo=UTC)
    lead = lead_of(local_text(at - timedelta(seconds=2), zone), at.timestamp())
    assert lead is not None
    seen = [WritersClock(lead, 10, at)]
    assert objection(seen, zone) is None
    for other in ZONES:
        if at.astimezone(other).utcoffset() != at.astimezone(zone).utcoffset():
            assert "HOLDFAST_LEGACY_TZ" in (objection(seen, other) or "")
    assert "different zones" in (objection([*seen, WritersClock(lead + 1800, 10, at)], zone) or "")
    assert objection([*seen, WritersClock(lead + 1800, 1, at)], zone) is None


@pytest.mark.parametrize("written", [None, 5, b"2026", "yesterday", "2026-06-15 12:00:00+00:00", "2026-06-15 12:07:00"])
def test_what_is_no_present_time_says_nothing_of_a_clock(written: object) -> None:
    """Move 34: only a time of the wall that is some writer's now tells by which clock it writes."""
    assert lead_of(written, datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()) is None


def test_a_change_of_the_clocks_is_no_second_zone() -> None:
    """Move 34: a writer in Berlin writes by two leads in the night of the change, and both are right."""
    before, after = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    seen = [WritersClock(7200, 5, before), WritersClock(3600, 5, after)]
    assert objection(seen, ZoneInfo("Europe/Berlin")) is None
