"""The legacy store keeps the contract, in both journal modes.

What the legacy form forces to be otherwise is overridden here, each with its reason, and said in
`docs/how-to/serve-a-legacy-file.md`.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast.legacy.store import LegacyStore
from holdfast.sessions.store import Store, StoreOptions
from holdfast.sessions.tokens import clear_digest_of, clear_digest_of_new
from holdfast.sql.address import SqliteAddress
from holdfast.testing.clock import MovableClock
from holdfast.testing.suite import StoreSuite
from holdfast.testing.suite_base import MALFORMED
from holdfast.testing.suite_lifecycle import assert_opens_nothing
from tests.legacy.old_application import legacy_file


class LegacySuite(StoreSuite):
    """The suite on a legacy SQLite file."""

    journal_mode: str

    @pytest.fixture(autouse=True)
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the files go. The suite's own new records bring their tokens, as the manager's do."""
        self.directory = tmp_path
        self.made = 0
        monkeypatch.setattr("holdfast.testing.suite_caps.digest_of_new", clear_digest_of_new)
        for part in ("lifecycle", "rotation"):
            monkeypatch.setattr(f"holdfast.testing.suite_{part}.known", clear_digest_of)

    async def new_store(self) -> Store:
        self.made += 1
        legacy_file(self._path, self.journal_mode)
        return await self.same_store()

    async def same_store(self) -> Store:
        return LegacyStore(SqliteAddress(self._path), StoreOptions(), ZoneInfo("UTC"))

    @property
    def _path(self) -> Path:
        return self.directory / f"sessions-{self.made}.db"

    async def test_malformed_tokens_ask_the_store_nothing(self, clock: MovableClock) -> None:
        """Here any short text may be a token that the old application issued, so some are asked about; none opens."""
        async with self.opened(clock) as sessions:
            for token in MALFORMED:
                await assert_opens_nothing(sessions, token, why="unknown")
                assert await sessions.redeem_ticket(token) is None
                assert await sessions.get_by_id(token) is None
            assert await sessions.get_active_session_count() == 0


class TestLegacyStore(LegacySuite):
    """With a rollback journal, as old applications have it."""

    journal_mode = "delete"


class TestLegacyStoreWal(LegacySuite):
    """With a write-ahead log."""

    journal_mode = "wal"
