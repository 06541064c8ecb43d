"""Two stores followed as one are observed like one."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from holdfast.move.following import FollowingStore
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.statistics import Statistical
from holdfast.sessions.store import StoreOptions
from holdfast.sql.stores import store_at
from holdfast.telemetry.store_metrics import StoreMetrics
from tests.conftest import MigratedDatabases
from tests.move.authority import Pair


async def test_the_store_that_serves_is_observed(tmp_path: Path, migrated_database: MigratedDatabases) -> None:
    """Its batches are counted, its load is shown, and its statistics can be asked for."""
    pair = await Pair.made(tmp_path / "sessions.db", migrated_database(None))
    await pair.give("postgresql")
    options = StoreOptions(connections=3, follows=True)
    halves = (store_at(pair.path, options), store_at(pair.address, options))
    registry = CollectorRegistry()
    store = FollowingStore(*halves, preferred=None, deadline=5.0)
    assert isinstance(store, Statistical)
    manager = SessionManager(store, sweep_interval=None)
    manager.observe(StoreMetrics(registry))
    async with manager:
        made = await manager.create_session("u1")
        assert await manager.validate_session(made.token) is not None
        assert (await store.statistics(1, 1)).live == 1
        load = manager.load()
        assert load is not None
        assert load.connections > 10
    assert registry.get_sample_value("holdfast_store_batch_calls_sum", {"kind": "touch"}) == 1
    assert registry.get_sample_value("holdfast_store_batch_calls_sum", {"kind": "create"}) == 1
