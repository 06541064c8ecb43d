"""The short way to read a legacy row comes to what the long one comes to, or leaves the row to it."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.legacy.hours import Hours
from holdfast.legacy.metadata import read_metadata, read_usual
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import LegacyRow, Readable, read_row
from holdfast.legacy.times import EARLY, FAR, local_text, read_time
from holdfast.legacy.usual_rows import ANY_TIME, UsualRows
from holdfast.sql.tables import EPOCH, microseconds
from tests.legacy.row_cases import CASES, NOW, PLAIN

ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
]
zones = st.sampled_from(ZONES)
near_changes = st.sampled_from(
    [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2011, 12, 30, 10, tzinfo=UTC),
    ]
)
instants = st.tuples(near_changes, st.timedeltas(timedelta(hours=-30), timedelta(hours=30))).map(lambda p: p[0] + p[1])
anything = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary())
times = st.one_of(
    st.tuples(instants, zones, st.booleans()).map(lambda p: local_text(p[0], p[1], up=p[2])),
    st.tuples(instants.map(lambda at: at.replace(microsecond=0)), zones).map(lambda p: local_text(*p)),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,7})?Z?\Z"),
    st.from_regex(r"\A\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{6}\Z"),
    anything,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
metadata = st.one_of(
    st.tuples(st.dictionaries(st.text(max_size=3), values, max_size=5), st.booleans()).map(
        lambda p: json.dumps(p[0], ensure_ascii=p[1])
    ),
    anything,
)


@given(times, zones)
@example("2026-10-25 02:30:00", ZONES[1])
@example("2026-10-25 01:59:59.999999", ZONES[1])
@example("2026-03-29 02:30:00", ZONES[1])
@example("2011-12-30 12:00:00", ZONES[5])
@example("2026-06-16 08:00:00.000000", ZONES[0])
@example("2026-06-16 08:00:00.+00001", ZONES[0])
@example("9999-12-31 23:59:59", ZONES[0])
def test_an_hour_that_leaves_no_doubt_means_one_instant(value: Any, zone: ZoneInfo) -> None:
    """Move 32: what the table of hours says, the rules of the zone say both ways, and writing it gives the text."""
    short = Hours(zone).microseconds(value)
    if short is None:
        return
    at = EPOCH + timedelta(microseconds=short)
    assert read_time(value, zone, later=False) == read_time(value, zone, later=True) == at
    assert local_text(at, zone) == local_text(at, zone, up=True) == value


@given(instants, zones)
def test_a_time_far_from_a_change_is_read_the_short_way(at: datetime, zone: ZoneInfo) -> None:
    """What is written where no clock is changed for a day is not left to the long way."""
    offsets = {(at + timedelta(hours=each)).astimezone(zone).utcoffset() for each in (-25, -1, 0, 1, 25)}
    if len(offsets) == 1:
        assert Hours(zone).microseconds(local_text(at, zone)) == microseconds(at - EPOCH)


class Crooked(tzinfo):
    """A zone whose two directions differ."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def fromutc(self, at: datetime) -> datetime:
        return at + timedelta(hours=2)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "crooked"


def test_an_hour_is_looked_up_both_ways() -> None:
    """Move 38: an hour that does not come back as it was is left to the long way."""
    assert Hours(Crooked()).microseconds("2026-06-16 08:00:00") is None


@given(metadata)
@example('{"a": 1, "a": 2}')
@example('{"a": "\\u0000"}')
@example('{"a": "\\ud800"}')
@example('{"a": 9007199254740993}')
@example('{"bb": 1e2, "a": [-0.0, 1e400]}')
@example('{"é": "\\\\u0000"}')
@example("[" * 2000 + "]" * 2000)
@example('{"a":' * 20 + "{}" + "}" * 20)
@example(json.dumps({"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}))
@example(json.dumps({str(number): number for number in range(65)}))
@example('{"a": "' + "x" * 16_384 + '"}')
def test_metadata_are_read_alike_both_ways(value: Any) -> None:
    """Move 32: text that is read the short way needs no repair, and is the same text."""
    short = read_usual(value)
    if short is not None:
        text, encoded = short
        assert read_metadata(value) == (text, ())
        assert encoded == text.encode()


@pytest.mark.parametrize("value", ['{"b": 1, "a": "é", "c": {"y": [1.5, null, true], "x": 2.0}}', "{}", None, "{ }"])
def test_plain_metadata_are_read_the_short_way(value: Any) -> None:
    """What applications write is not left to the long way."""
    assert read_usual(value) is not None


def check(row: LegacyRow, zone: ZoneInfo, now: datetime) -> None:
    """Hold one row's two ways against each other."""
    outcome = read_row(row, zone, now)
    assert Reader(zone).judge(row, now) == (row, outcome)
    short = UsualRows(zone).read(row, microseconds(now - EPOCH))
    if short is None:
        return
    long = outcome
    assert isinstance(long, Readable)
    assert not long.repairs
    assert short.encoded == short.metadata.encode()
    assert (short.user_id, short.metadata, short.request_count) == (long.user_id, long.metadata, long.request_count)
    spelt = [EPOCH + timedelta(microseconds=each) for each in (short.created_at, short.expires_at, short.last_activity)]
    assert spelt == [long.created_at, long.expires_at, long.last_activity]


stored = times | instants | st.sampled_from([EARLY, FAR])
rows = st.builds(
    LegacyRow,
    *(st.one_of(st.just("session-1"), anything), st.one_of(st.text(), anything), metadata, stored, stored, stored),
    st.one_of(st.integers(0, 10), anything),
)


@given(rows, zones, instants)
def test_a_row_that_is_read_the_short_way_is_exact(row: LegacyRow, zone: ZoneInfo, now: datetime) -> None:
    """Move 29, 32: it is a session without a repair the long way too, and the same one."""
    check(row, zone, now)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_documented_oddity_passes_for_a_usual_row(case: Any) -> None:
    """Move 29: each kind of value that the reference lists is read as it says, whichever way."""
    check(case.row, ZoneInfo(case.zone), NOW)
    check(PLAIN, ZoneInfo(case.zone), NOW)


def test_a_plain_row_is_read_the_short_way() -> None:
    """Else a large table would take the time that it took before."""
    assert UsualRows(ZoneInfo("UTC")).read(PLAIN, ANY_TIME) is not None
    in_postgresql = PLAIN._replace(created_at=NOW, expires_at=NOW, last_activity=NOW)
    assert UsualRows(ZoneInfo("UTC")).read(in_postgresql, ANY_TIME) is not None
