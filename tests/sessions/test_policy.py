"""Policy: which lengths of time are ones."""

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.policy import MAX_DURATION, Policy, duration

HOUR = timedelta(hours=1)


def test_the_defaults() -> None:
    """24 hours, at most 30 days, no idle timeout, no grace, an hour's retention."""
    policy = Policy()
    assert policy.lifetime == 24 * HOUR
    assert policy.max_lifetime == timedelta(days=30)
    assert policy.idle_timeout is None
    assert policy.rotation_grace == timedelta(0)
    assert policy.retention == HOUR


def test_a_policy_cannot_be_changed() -> None:
    """Every server of a store has the same one; nobody changes it under way."""
    with pytest.raises(FrozenInstanceError):
        Policy().lifetime = HOUR  # type: ignore[misc]  # that is the test


def test_a_lifetime_beyond_the_cap_is_a_contradiction() -> None:
    """The lifetime may be the cap, and no more."""
    assert Policy(lifetime=HOUR, max_lifetime=HOUR).lifetime == HOUR
    assert Policy(lifetime=1000 * HOUR, max_lifetime=None).lifetime == 1000 * HOUR
    with pytest.raises(InvalidArgument, match="max_lifetime"):
        Policy(lifetime=2 * HOUR, max_lifetime=HOUR)


def test_the_grace_is_at_most_30_seconds() -> None:
    """A replaced token is not to live on."""
    assert Policy(rotation_grace=timedelta(seconds=30)).rotation_grace == timedelta(seconds=30)
    with pytest.raises(InvalidArgument, match="rotation_grace"):
        Policy(rotation_grace=timedelta(seconds=30.001))


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (90, timedelta(seconds=90)),
        (0.5, timedelta(milliseconds=500)),
        (HOUR, HOUR),
        (1e-6, timedelta(microseconds=1)),
        (MAX_DURATION, MAX_DURATION),
        (MAX_DURATION.total_seconds(), MAX_DURATION),
    ],
    ids=repr,
)
def test_seconds_and_timedeltas_are_durations(value: Any, length: timedelta) -> None:
    """Both spellings mean the same."""
    assert duration(value, "limit") == length


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -0.0,
        timedelta(0),
        timedelta(days=-1),
        float("nan"),
        float("inf"),
        -float("inf"),
        -(10**400),
        1e-9,
        True,
        None,
        "60",
        [],
        10**400,
        1e300,
        MAX_DURATION + timedelta(microseconds=1),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_other_values_are_refused(value: Any) -> None:
    """Nothing, less, endless, unrepresentable or no number: refused, with the argument's name."""
    with pytest.raises(InvalidArgument, match="limit"):
        duration(value, "limit")


def test_zero_is_a_duration_where_it_means_something() -> None:
    """A grace or a retention may be none; less than none it may not."""
    assert duration(0, "grace", allow_zero=True) == timedelta(0)
    with pytest.raises(InvalidArgument, match="zero or more"):
        duration(-1, "grace", allow_zero=True)


@pytest.mark.parametrize("hours", [1e300, 10**400, 10**9, MAX_DURATION * 2], ids=lambda value: repr(value)[:20])
def test_extensions_are_clamped(hours: Any) -> None:
    """However far, an extension reaches no further than the cap, or a hundred years."""
    assert Policy().extension(hours) == timedelta(days=30)
    assert Policy(max_lifetime=None).extension(hours) == MAX_DURATION


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_extensions_are_hours(hours: float) -> None:
    """Within the cap an extension is so many hours."""
    assert Policy().extension(hours) == min(timedelta(hours=min(hours, 10_000)), timedelta(days=30))


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf"), True, None, "24"], ids=repr)
def test_bad_hours_are_refused(hours: Any) -> None:
    """An endless extension is no length, and a negative one no extension."""
    with pytest.raises(InvalidArgument, match="hours"):
        Policy().extension(hours)
