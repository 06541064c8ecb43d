"""The numbers agree with what was done, on both databases, and cost a validate next to nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from holdfast.memory import MemoryStore
from holdfast.server.metrics import Metrics
from holdfast.server.metrics_reference import PAGE, page
from holdfast.sessions import errors
from holdfast.sessions.errors import HoldfastError, Overloaded, StoreUnavailable, TooManySessions
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.observer import NOBODY
from holdfast.sessions.tokens import new_token
from holdfast.sql import schema
from holdfast.telemetry.active_sessions import ActiveSessions
from holdfast.telemetry.store_metrics import DEFECT, ERRORS, error_kind
from holdfast.testing import FaultyStore, MovableClock
from tests.conftest import MigratedDatabases
from tests.support.polling import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
async def address(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> str:
    """A store with its tables."""
    if request.param == "postgresql":
        return migrated_database(None)
    await schema.upgrade(tmp_path / "sessions.db")
    return str(tmp_path / "sessions.db")


class Watched:
    """A manager, its metrics and its clock."""

    def __init__(self, store: "str | FaultyStore", **policy: float) -> None:
        self.clock = MovableClock()
        self.manager = SessionManager(store, clock=self.clock, **policy)  # type: ignore[arg-type]  # numbers all
        self.metrics = Metrics(lambda: True)
        self.active = self.metrics.sessions(self.manager, 60)

    def value(self, name: str, **labels: str) -> float:
        """A number as a scrape would show it."""
        found = self.metrics.registry.get_sample_value(name, labels)
        assert found is not None, (name, labels)
        return found


@asynccontextmanager
async def watched(store: "str | FaultyStore", **policy: float) -> AsyncIterator[Watched]:
    """It, opened."""
    made = Watched(store, **policy)
    async with made.manager:
        yield made


async def test_what_was_done_is_what_is_shown(address: str) -> None:
    """Creates, validates, refusals by reason, ends by reason, batches, calls; and nothing is left in hand."""
    async with watched(address, sweep_interval=60, max_sessions_per_user=5) as seen:
        manager, kind = seen.manager, "write" if "://" not in address else "touch"
        made = await asyncio.gather(*(manager.create_session() for _ in range(20)))
        before = seen.value("holdfast_store_batch_calls_sum", kind=kind)
        await asyncio.gather(*(manager.validate_session(made[n % 20].token) for n in range(200)))
        assert seen.value("holdfast_store_batch_calls_sum", kind=kind) - before == 200
        assert seen.value("holdfast_store_batch_calls_count", kind=kind) < 200
        assert await manager.validate_by_id(made[0].id) is not None
        assert await manager.validate_session(new_token()) is None
        assert await manager.validate_session("made up") is None
        assert await manager.delete_session(made[0].token)
        assert await manager.end_session(made[1].id, "revoked")
        assert seen.value("holdfast_creates_total") == 20
        assert seen.value("holdfast_validates_total") == 201
        assert seen.value("holdfast_validates_refused_total", reason="not_live") == 1
        assert seen.value("holdfast_validates_refused_total", reason="malformed") == 1
        assert seen.value("holdfast_sessions_ended_total", reason="revoked") == 2
        assert await manager.get_by_id(made[2].id) is not None
        assert seen.value("holdfast_store_call_seconds_count", kind="read") > 0
        for name in ("queued_calls", "batches_in_flight"):
            assert seen.value(f"holdfast_store_{name}") == 0
        assert 0 <= seen.value("holdfast_store_connections_in_use") <= seen.value("holdfast_store_connections")
        for _ in range(5):
            await manager.create_session("u1")
        with pytest.raises(TooManySessions):
            await manager.create_session("u1")
        assert seen.value("holdfast_store_errors_total", kind="cap") == 1
        assert seen.value("holdfast_store_errors_total", kind="unavailable") == 0
    assert seen.value("holdfast_store_connections") == 0


async def test_a_burst_of_invalid_tokens_rises(address: str) -> None:
    """S-78: made-up tokens and well-formed ones that nobody issued are counted apart; an alert rule asks for them."""
    async with watched(address) as seen:
        await asyncio.gather(*(seen.manager.validate_session(f"guess-{n}") for n in range(500)))
        await asyncio.gather(*(seen.manager.validate_session(new_token()) for _ in range(20)))
        assert seen.value("holdfast_validates_refused_total", reason="malformed") == 500
        assert seen.value("holdfast_validates_refused_total", reason="not_live") == 20
    rules = (ROOT / "deploy" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    assert 'holdfast_validates_refused_total{reason="malformed"}' in rules


async def test_the_sweep_is_shown(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """How often it ran, what it did and when; it says so in one line, with numbers and no names."""
    with caplog.at_level(logging.INFO, logger="holdfast.sessions"):
        async with watched(address, sweep_interval=60) as seen:
            for _ in range(3):
                await seen.manager.create_session("somebody")
            await seen.clock.until_sleeping()
            seen.clock.advance(25 * 3600)
            await eventually(
                lambda: seen.value("holdfast_sweeps_total", outcome="complete") > 0, what="the pass of the sweep"
            )
            assert seen.value("holdfast_sweep_sessions_total", what="marked") == 3
            assert seen.value("holdfast_sessions_ended_total", reason="expired") == 3
            assert seen.value("holdfast_sweep_last_success_timestamp_seconds") > 1e9
    assert [each.getMessage() for each in caplog.records if "swept: 3 sessions had run out" in each.getMessage()]
    assert "somebody" not in caplog.text


async def test_a_failing_sweep_is_shown() -> None:
    """The outcome is counted, and the time of the last success stays as it was."""
    store = FaultyStore(MemoryStore())
    async with watched(store, sweep_interval=60) as seen:
        store.fail("mark_expired", error=StoreUnavailable("planned"))
        await seen.clock.until_sleeping()
        seen.clock.advance(61)
        await eventually(lambda: seen.value("holdfast_sweeps_total", outcome="failed") > 0, what="the failed pass")
        assert seen.value("holdfast_sweep_last_success_timestamp_seconds") == 0


async def test_live_sessions_are_counted_by_one_task_and_never_by_a_scrape() -> None:
    """The number has an age; a store that does not answer leaves the last number, and it grows older."""
    store = FaultyStore(MemoryStore())
    async with watched(store) as seen:
        assert seen.value("holdfast_active_sessions") != seen.value("holdfast_active_sessions")
        await seen.manager.create_session()
        assert await seen.active.count()
        await seen.manager.create_session()
        assert seen.value("holdfast_active_sessions") == 1
        store.fail("count_live", error=StoreUnavailable("planned"))
        assert not await seen.active.count()
        assert seen.value("holdfast_active_sessions") == 1
        assert seen.value("holdfast_active_sessions_age_seconds") >= 0
        seen.active.start()
        await eventually(lambda: seen.value("holdfast_active_sessions") == 2, what="the count")
        await seen.active.stop()


async def test_nobody_counts_when_that_is_chosen() -> None:
    """Without an interval no task runs."""
    registry = CollectorRegistry()
    active = ActiveSessions(SessionManager(MemoryStore()), registry, None)
    active.start()
    await active.stop()
    assert len(asyncio.all_tasks()) == 1


def test_every_error_has_one_kind() -> None:
    """The labels are fixed, and each error that Holdfast raises has one; what it does not know is a defect."""
    kinds = {name for name, _ in ERRORS}
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, HoldfastError):
            expected = DEFECT if each in (HoldfastError, errors.InvalidArgument) else error_kind(each("x"))
            assert expected in kinds | {DEFECT}
    assert error_kind(Overloaded("x")) == "overloaded"
    assert error_kind(StoreUnavailable("x")) == "unavailable"
    assert error_kind(KeyError("x")) == DEFECT


async def test_without_an_observer_nothing_is_told(tmp_path: Path) -> None:
    """A manager has one that does nothing until it is given another."""
    async with SessionManager(tmp_path / "s.db") as manager:
        assert manager.observer is NOBODY
        load = manager.load()
        assert load is not None
        assert load.queued == 0
    assert manager.load() is None


def test_the_page_is_what_the_registry_says() -> None:
    """`python -m holdfast.server.metrics_reference` was run after the last change."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page()
