"""Promise 10 in a busy run: everything that can be logged is, at debug level, and no token is in any of it."""

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import NewSession
from holdfast.server.logging import configure
from holdfast.server.metrics import Metrics
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import StoreOptions
from holdfast.sessions.tokens import new_token
from holdfast.sql import schema
from holdfast.sql.stores import store_at
from holdfast.testing import FaultyStore, MovableClock
from tests.conftest import MigratedDatabases


@pytest.fixture(params=["sqlite", "postgresql"])
async def address(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> str:
    """A store with its tables."""
    if request.param == "postgresql":
        return migrated_database(None)
    await schema.upgrade(tmp_path / "sessions.db")
    return str(tmp_path / "sessions.db")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log as JSON at debug level, as it was before the cleaning: what is never said need not be hidden."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure("debug", True, stream)
    for handler in root.handlers:
        handler.filters.clear()
        handler.addFilter(_with_correlation)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False


def _with_correlation(record: logging.LogRecord) -> bool:
    record.correlation_id = "-"
    return True


async def test_a_busy_run_logs_ids_and_no_token(address: str, written: io.StringIO) -> None:
    """S-10: creates, validates, refusals, rotations, replays, ends, sweeps and failures; ids are there, tokens not."""
    clock = MovableClock()
    store = FaultyStore(store_at(address, StoreOptions(deadline=30.0)))
    manager = SessionManager(store, clock=clock, sweep_interval=60, max_sessions_per_user=3, at_cap="evict")
    Metrics(lambda: True).sessions(manager, None)
    tokens: list[str] = []
    async with manager:
        made: list[NewSession] = []
        # Few at once: a user's creates under a cap wait for each other, each with a connection in its hands.
        for _ in range(8):
            made += await asyncio.gather(*(manager.create_session(f"user-{n}", {"n": "private"}) for n in range(5)))
        tokens += [each.token for each in made]
        await asyncio.gather(*(manager.validate_session(token) for token in tokens))
        foreign = [new_token() for _ in range(5)]
        tokens += foreign
        await asyncio.gather(*(manager.validate_session(token) for token in (*foreign, "made-up-secret")))
        live = [each.token for each in made if await manager.get_session(each.token) is not None]
        rotated = await manager.rotate_session(live[0])
        assert rotated is not None
        tokens.append(rotated.token)
        assert await manager.validate_session(rotated.token) is not None
        assert await manager.validate_session(live[0]) is None
        await manager.replays.finish()
        store.fail("touch", error=StoreUnavailable("planned"))
        with pytest.raises(StoreUnavailable):
            await manager.validate_session(rotated.token)
        assert await manager.delete_session(rotated.token)
        await manager.revoke_user_sessions("user-1")
        await clock.until_sleeping()
        clock.advance(25 * 3600)
        await manager.sweep()
    text = written.getvalue()
    for said in ("a session ended: revoked", "a session ended: evicted", "a token was refused", "was used again"):
        assert said in text, said
    assert made[0].id in text
    for secret in (*tokens, "made-up-secret", "private", "user-1", "hfs_"):
        assert secret not in text
