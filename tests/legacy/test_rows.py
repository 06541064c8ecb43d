"""Legacy rows: every odd kind becomes what the reference page says, and exact times come back as they were."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.legacy.metadata import read_metadata
from holdfast.legacy.rows import LegacyRow, Quarantined, Readable, read_row
from holdfast.legacy.times import FAR, local_text, read_time
from holdfast.legacy.zone import zone_named
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.metadata import canonical, decode
from tests.legacy.row_cases import BEGIN, CASES, END, NOW, PAGE, PLAIN, Case, table

ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"]
BERLIN = ZoneInfo("Europe/Berlin")
ANYTHING = st.none() | st.integers() | st.floats() | st.text() | st.binary()


def test_page_says_what_the_code_does() -> None:
    """The table of the reference is made by reading the rows."""
    shown = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == table(), "run python -m tests.legacy.row_cases and read what changed"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.column}: {case.kind}")
def test_only_what_cannot_be_told_is_quarantined(case: Case) -> None:
    """Bad metadata, counts and past times lose nobody a session; what is kept is fit for the store."""
    outcome = case.outcome()
    if isinstance(outcome, Quarantined):
        assert case.column in ("session_id", "user_id", "expires_at")
        return
    assert isinstance(decode(outcome.metadata), dict)
    assert outcome.created_at <= NOW
    assert outcome.last_activity <= NOW


@given(st.builds(LegacyRow, *[ANYTHING] * 7), st.sampled_from(ZONES))
def test_reading_never_raises(row: LegacyRow, zone: str) -> None:
    """Whatever another program put there."""
    read_row(row, ZoneInfo(zone), NOW)
    read_row(row, ZoneInfo(zone), NOW, on_bad_expiry="extend")


@given(st.datetimes(), st.sampled_from(ZONES))
@example(datetime(2026, 10, 25, 2, 30), "Europe/Berlin")  # noqa: DTZ001 - the naive times of an old application
@example(datetime(2026, 3, 29, 2, 30), "Europe/Berlin")  # noqa: DTZ001 - the naive times of an old application
def test_exact_times_are_written_as_they_were_read(clock: datetime, zone: str) -> None:
    """Writing what was read gives the text again, or the row says that it is repaired."""
    at = ZoneInfo(zone)
    text = clock.isoformat(" ")
    row = PLAIN._replace(created_at=text, expires_at=text, last_activity=text)
    outcome = read_row(row, at, datetime(9999, 12, 31, tzinfo=UTC))
    assert isinstance(outcome, Readable)
    repaired = {each.split()[0] for each in outcome.repairs}
    if "created_at" not in repaired:
        assert local_text(outcome.created_at, at) == text
    if "last_activity" not in repaired:
        assert local_text(outcome.last_activity, at) == text
    if "expires_at" not in repaired:
        assert local_text(outcome.expires_at, at, up=True) == text


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.sampled_from(ZONES))  # noqa: DTZ001 - as hypothesis wants the limits
@example(datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC), "Europe/Berlin")
@example(datetime(2026, 10, 25, 1, 0, tzinfo=UTC), "Europe/Berlin")
@example(datetime(2027, 4, 3, 15, 10, tzinfo=UTC), "Australia/Lord_Howe")
def test_a_written_expiry_is_never_early(at: datetime, zone: str) -> None:
    """Whichever of the two hours a reader of the text takes it for, and at most one repeated hour late."""
    text = local_text(at, ZoneInfo(zone), up=True)
    for later in (False, True):
        read = read_time(text, ZoneInfo(zone), later=later)
        assert read is not None
        assert timedelta() <= read - at <= timedelta(hours=2)


def test_a_repeated_hour_ends_when_the_clocks_were_put_back() -> None:
    """Berlin, half past two on either side of the change: the text is three o'clock."""
    for hour in (0, 1):
        at = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
        assert local_text(at, BERLIN, up=True) == "2026-10-25 03:00:00"


def test_utcnow_is_read_in_utc() -> None:
    """An application that wrote `utcnow()` has the zone UTC, whatever the machine's is."""
    assert read_time("2026-06-16 08:00:00", ZoneInfo("UTC"), later=True) == datetime(2026, 6, 16, 8, tzinfo=UTC)


def test_a_zone_that_is_none_is_refused() -> None:
    """Rather than read every time wrong."""
    with pytest.raises(InvalidArgument, match="HOLDFAST_LEGACY_TZ"):
        zone_named("Mars/Olympus")


def test_postgresql_s_instants_are_exact() -> None:
    """Times with an offset of their own need no zone; `infinity` is the far end of time."""
    times = [NOW - timedelta(hours=1), NOW + timedelta(hours=1), NOW]
    row = PLAIN._replace(created_at=times[0], expires_at=times[1], last_activity=times[2])
    outcome = read_row(row, BERLIN, NOW)
    assert isinstance(outcome, Readable)
    assert (outcome.expires_at, outcome.repairs) == (times[1], ())
    assert read_time(datetime.max.replace(tzinfo=UTC), BERLIN, later=True) == FAR


def test_a_bad_expiry_is_extended_on_request() -> None:
    """Then it lives for a day more."""
    row = PLAIN._replace(expires_at="never")
    outcome = read_row(row, BERLIN, NOW, on_bad_expiry="extend")
    assert isinstance(outcome, Readable)
    assert outcome.expires_at == NOW + timedelta(days=1)
    assert outcome.repairs == ("expires_at is extended",)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_metadata_that_holdfast_takes_is_taken_as_it_takes_it(value: dict[str, object]) -> None:
    """The same canonical text as from `create`; what `create` refuses is repaired, and says so."""
    read = read_metadata(json.dumps(value))
    try:
        expected = canonical(value)
    except InvalidArgument:
        assert read.repairs
        decode(read.text)
    else:
        assert read == (expected, ())
