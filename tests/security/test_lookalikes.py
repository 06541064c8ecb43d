"""What opens nothing looks the same, to a stopwatch too."""

import time
from pathlib import Path
from statistics import median

import pytest

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.tokens import new_token
from holdfast.testing import MovableClock
from tests.conftest import MigratedDatabases


async def compare(address: str, calls: int, allowed: float) -> None:
    """Time validates of unknown, expired and revoked tokens in turn, and compare their medians."""
    clock = MovableClock()
    async with SessionManager(address, clock=clock, sweep_interval=None, session_ttl_hours=1) as sessions:
        expired = [(await sessions.create_session()).token for _ in range(50)]
        clock.advance(7200)
        revoked = [(await sessions.create_session()).token for _ in range(50)]
        for token in revoked:
            await sessions.delete_session(token)
        unknown = [new_token() for _ in range(50)]
        times: dict[str, list[float]] = {"unknown": [], "expired": [], "revoked": []}
        for number in range(calls):
            # In turn, so that whatever the machine does meanwhile happens to all three alike.
            for name, tokens in (("unknown", unknown), ("expired", expired), ("revoked", revoked)):
                began = time.perf_counter()
                assert await sessions.validate_session(tokens[number % 50]) is None
                times[name].append(time.perf_counter() - began)
    medians = {name: median(each) for name, each in times.items()}
    assert max(medians.values()) <= allowed * min(medians.values()), medians


async def test_dead_tokens_take_equally_long_on_sqlite(tmp_path: Path) -> None:
    """S-07: unknown, expired and revoked tokens are refused in the same time on SQLite (a tenth of the soak)."""
    await compare(str(tmp_path / "sessions.db"), 2_000, allowed=1.3)


@pytest.mark.parametrize("migrated_database", [[18]], indirect=True, ids=["18"])
async def test_dead_tokens_take_equally_long_on_postgresql(migrated_database: MigratedDatabases) -> None:
    """S-07: unknown, expired and revoked tokens are refused in the same time on PostgreSQL (a tenth of the soak)."""
    await compare(migrated_database(18), 2_000, allowed=1.3)


@pytest.mark.soak
async def test_dead_tokens_take_equally_long_in_the_soak(tmp_path: Path) -> None:
    """S-07: 20,000 timed calls for each kind of dead token, medians within the noise."""
    await compare(str(tmp_path / "sessions.db"), 20_000, allowed=1.1)
