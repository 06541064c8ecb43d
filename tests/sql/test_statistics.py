"""What can be said of sessions as a whole: the statistics and the views say the same on both databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.statistics import Share, Statistical, Statistics
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.stores import store_at
from holdfast.sql.views import VIEWS
from holdfast.testing import MovableClock
from tests.conftest import MigratedDatabases
from tests.support.admin import execute

HOUR = 3600
PLACES = ["sqlite", "postgresql"]


@pytest.fixture(params=PLACES)
async def address(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> str:
    """A store with its tables."""
    if request.param == "postgresql":
        return migrated_database(None)
    await schema.upgrade(tmp_path / "sessions.db")
    return str(tmp_path / "sessions.db")


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[tuple[SessionManager, Statistical, MovableClock]]:
    """A manager, its store as one that can count, and the clock of both."""
    clock, store = MovableClock(), store_at(address, StoreOptions())
    assert isinstance(store, Statistical)
    async with SessionManager(store, clock=clock, sweep_interval=None, max_lifetime=None) as manager:
        yield manager, store, clock


async def lived(manager: SessionManager, clock: MovableClock) -> None:
    """Ten sessions of u1 that last 1 to 10 hours, two of u2 that go on, one of nobody."""
    # From the middle of an hour, so that none of it happens as the hour strikes.
    clock.advance((90 - (await manager.ping()).minute) % 60 * 60)
    tokens = [(await manager.create_session("u1", {"device": "phone"})).token for _ in range(10)]
    for _ in range(2):
        await manager.create_session("u2", {"device": "desk", "other": "x"})
    visitor = (await manager.create_session()).token
    for _ in range(3):
        assert await manager.validate_session(visitor)
    for token in tokens:
        clock.advance(HOUR)
        assert await manager.delete_session(token)


async def test_statistics_count_what_happened(address: str) -> None:
    """Creates and ends by the hour, users and devices by their live sessions, and lengths by nearest rank."""
    async with opened(address) as (manager, store, clock):
        await lived(manager, clock)
        found = await store.statistics(hours=24, top=2)
        recent = await store.statistics(hours=3, top=1)
    assert (found.live, found.ended) == (3, 10)
    assert sum(hour.created for hour in found.hours) == 13
    assert [hour.ended for hour in found.hours] == [1] * 10 + [0]
    assert [hour.hour for hour in found.hours] == sorted((hour.hour for hour in found.hours), reverse=True)
    assert all((each.hour.minute, each.hour.utcoffset()) == (0, found.at.utcoffset()) for each in found.hours)
    # An end that is just three hours old may fall to either side of the window.
    assert sum(hour.created for hour in recent.hours) == 0
    assert sum(hour.ended for hour in recent.hours) in (3, 4)
    assert found.users == [
        Share(name="u2", live=2, kept=2, requests=0),
        Share(name="u1", live=0, kept=10, requests=0),
    ]
    assert found.devices == [
        Share(name="desk", live=2, kept=2, requests=0),
        Share(name=None, live=1, kept=1, requests=3),
    ]
    assert len(recent.users) == len(recent.devices) == 1
    lengths = found.durations
    assert lengths is not None
    assert lengths.sessions == 10
    rounded = [round(seconds / HOUR, 1) for seconds in (lengths.median, lengths.p90, lengths.p99, lengths.longest)]
    assert rounded == [5, 9, 10, 10]


async def test_statistics_of_nothing(address: str) -> None:
    """An empty store has a clock and no numbers; numbers out of range are the caller's mistake."""
    async with opened(address) as (_, store, _clock):
        found = await store.statistics(hours=24, top=10)
        for hours, top in ((0, 1), (1, 0), (10**6, 1), (1, 10**6)):
            with pytest.raises(InvalidArgument):
                await store.statistics(hours, top)
    assert found == Statistics(at=found.at, live=0, ended=0, hours=[], users=[], devices=[], durations=None)
    assert found.at.utcoffset() is not None


async def test_a_time_that_ran_out_is_not_live(address: str) -> None:
    """Nor is one that idled out: what live means is the policy's, swept or not."""
    clock, store = MovableClock(), store_at(address, StoreOptions())
    assert isinstance(store, Statistical)
    async with SessionManager(store, clock=clock, sweep_interval=None, idle_timeout=60) as manager:
        await manager.create_session("u1")
        assert (await store.statistics(1, 1)).live == 1
        clock.advance(61)
        assert (await store.statistics(1, 1)).live == 0


def rows(address: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds, for somebody beside Holdfast."""
    if "://" in address:
        return [tuple(row) for row in execute(address, query)]
    engine = create_engine(f"sqlite:///{address}", poolclass=NullPool)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


async def test_the_views_say_the_same(address: str) -> None:
    """Every view can be read, and holds what the statistics say."""
    async with opened(address) as (manager, _, clock):
        for number in range(4):
            token = (await manager.create_session(f"u{number % 2}", {"device": "phone"})).token
            if number > 1:
                assert await manager.validate_session(token)
                clock.advance(90)
                assert await manager.delete_session(token)
    ask = partial(rows, address)
    assert len(ask("SELECT * FROM holdfast_sessions_live")) == 2
    lengths = [float(row[0]) for row in ask("SELECT seconds FROM holdfast_session_durations")]
    # And what the machine took to make and end each of them.
    assert [90 <= length < 120 for length in lengths] == [True, True]
    totals = ask("SELECT sum(created), sum(ended), sum(revoked), sum(expired) FROM holdfast_sessions_per_hour")
    assert totals == [(4, 2, 2, 0)]
    users = ask("SELECT user_id, live, ended, kept, requests FROM holdfast_sessions_per_user ORDER BY 1")
    assert users == [("u0", 1, 1, 2, 1), ("u1", 1, 1, 2, 1)]
    assert ask("SELECT device, live, kept FROM holdfast_sessions_per_device") == [("phone", 2, 4)]


async def test_no_view_shows_a_digest(address: str) -> None:
    """The columns of the views are those that the reference names, and no digest is among them."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "schema.md").read_text(encoding="utf-8")
    for view in VIEWS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{view}`")]
        if "://" in address:
            query = f"SELECT attname::text FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0"
            columns = [name for (name,) in rows(address, query)]
        else:
            columns = [name for (name,) in rows(address, f"SELECT name FROM pragma_table_info('{view}')")]
        assert columns
        assert all(f"`{name}`" in row for name in columns), view
        assert not [name for name in columns if "digest" in name or name == "metadata"]
