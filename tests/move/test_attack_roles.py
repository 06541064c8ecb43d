"""Rights that a careful administrator has taken away, of a server's role that owns nothing."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.move.conditions import Wishes
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import legacy_file
from tests.move.legacy_place import LegacyPlace
from tests.move.test_application_role import GRANTS, ROLE
from tests.support.admin import with_login

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")


@pytest_asyncio.fixture
async def place(tmp_path: Path, migrated_database: MigratedDatabases) -> AsyncIterator[LegacyPlace]:
    """A legacy file, and a database in which nobody may call a new function unless he is told so."""
    made = LegacyPlace(legacy_file(tmp_path / "sessions.db", "delete"), migrated_database(None))
    await made.in_postgresql(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN PASSWORD 'poor'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    await made.in_postgresql("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    for grant in (*GRANTS, f"GRANT SELECT, INSERT, UPDATE, DELETE ON holdfast_processes TO {ROLE}"):
        await made.in_postgresql(grant)
    yield made


async def test_new_sessions_are_made_although_functions_are_nobodys(place: LegacyPlace) -> None:
    """While tokens are kept for the way back, a server that may write sessions may keep them too, and goes back."""
    served = LegacyPlace(place.path, with_login(place.address, ROLE, "poor"))
    wishes = Wishes(quiet=timedelta(0), keep_way_back=True)
    async with served.following() as manager, place.mover(wishes=wishes) as mover:
        await mover.start()
        await mover.cut_over()
        new = await manager.create_session("u1")
        await mover.roll_back()
        assert await manager.validate_session(new.token) is not None
        assert place.in_sqlite("SELECT count(*) FROM sessions WHERE session_id = ?", new.token) == [(1,)]
