"""What a move says while it goes wrong and right: no token is in any of it."""

import logging
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast import HoldfastError
from holdfast.legacy.zone import zone_named
from holdfast.move.conditions import Wishes
from holdfast.move.odd_rows import list_odd
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.legacy_place import ZONE, LegacyPlace, fill

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")


async def test_no_token_is_in_any_log_or_message(
    tmp_path: Path, migrated_database: MigratedDatabases, caplog: pytest.LogCaptureFixture
) -> None:
    """Move 47: everybody's log down to the drivers' debugging, every exception with its causes, every progress."""
    place = LegacyPlace(legacy_file(tmp_path / "sessions.db"), migrated_database(None))
    old = OldSessionManager(place.path)
    tokens = [*fill(place.path), *(old.create_session(f"u{number}") for number in range(5))]
    said: list[str] = []

    async def refused(goal: str, **changes: Any) -> None:
        async with place.mover(**changes) as mover:
            with pytest.raises(HoldfastError) as caught:
                await getattr(mover, goal)()
        said.extend(traceback.format_exception(caught.value))

    found = list_odd(place.path, zone_named(ZONE))
    assert found is not None
    wishes = Wishes(accept_quarantined=found.quarantined_live, quiet=timedelta(0))
    with caplog.at_level(logging.DEBUG):
        async with place.following() as manager:
            await refused("cut_over")
            async with place.mover(wishes=wishes, tell=lambda progress: said.append(repr(progress))) as mover:
                await mover.start()
                await mover.let_go()
                await refused("cut_over")
                # A row that PostgreSQL does not take from whoever has no business there.
                await place.in_postgresql("ALTER TABLE sessions ADD CONSTRAINT odd CHECK (request_count <> 78)")
                place.in_sqlite("UPDATE sessions SET request_count = 78 WHERE session_id = ?", tokens[-1])
                await mover.let_go()
                await refused("run")
                await place.in_postgresql("ALTER TABLE sessions DROP CONSTRAINT odd")
                await mover.cut_over()
                assert await manager.validate_session(tokens[-1]) is not None
                await mover.roll_back()
                await mover.cut_over()
                await mover.complete()
    said += [repr(each) for each in found.odd] + [caplog.text] + [str(record.__dict__) for record in caplog.records]
    assert len(said) > 20
    everything = "\n".join(said)
    # Of the odd ones some are a letter or two.
    assert not [token for token in tokens if len(token) > 5 and token in everything]
