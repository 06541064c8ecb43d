"""Servers whose role may only write sessions, while the owner of the tables moves them."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from holdfast import SessionManager, StoreOptions, TwoStores
from holdfast.move.following import FollowingStore
from holdfast.move.processes import processes_seen
from holdfast.move.status import StatusReader
from holdfast.opening import open_store
from holdfast.sql import schema
from tests.move.bench import Place, lapse
from tests.support.polling import eventually

ROLE = "holdfast_test_server"
GRANTS = (
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, holdfast_tickets TO {ROLE}",
    f"GRANT SELECT, UPDATE (hooks_expected_at) ON holdfast_control TO {ROLE}",
    f"GRANT SELECT ON holdfast_version TO {ROLE}",
    f"GRANT SELECT, UPDATE (user_id, original) ON holdfast_imported TO {ROLE}",
)


@pytest_asyncio.fixture
async def served(place: Place) -> AsyncIterator[Place]:
    """The place as that role reaches it. It had its rights before there were notes of processes."""
    await schema.downgrade(place.address, revision="0004")
    await place.in_postgresql(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN PASSWORD 'poor'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    for grant in GRANTS:
        await place.in_postgresql(grant)
    await schema.upgrade(place.address)
    parts = urlsplit(place.address)
    yield Place(place.path, parts._replace(netloc=f"{ROLE}:poor@{parts.netloc.rpartition('@')[2]}").geturl())


def opened(served: Place) -> FollowingStore:
    """A store over both."""
    two = TwoStores(served.path, served.address, preferred="sqlite")
    store = open_store(two, StoreOptions(deadline=20.0, connections=3))
    assert isinstance(store, FollowingStore)
    return store


async def test_such_a_server_follows_and_tells(place: Place, served: Place) -> None:
    """Roles: it follows the owner's move there and back, notes that it is here, and sees how the move stands."""
    store = opened(served)
    async with (
        SessionManager(store, sweep_interval=None) as manager,
        StatusReader(served.path, served.address) as reader,
        place.mover() as mover,
    ):
        new = await manager.create_session("u1")
        await mover.start()
        assert (await reader.read()).phase == "following"

        async def noted() -> bool:
            return [each.can_follow for each in await processes_seen(place.path, place.address)] == [True]

        await eventually(noted, what="it is seen in both stores")
        for goal, serving in ((mover.cut_over, "postgresql"), (mover.roll_back, "sqlite")):
            await goal()
            assert await manager.validate_session(new.token) is not None
            assert store.serving == serving
            assert (await reader.read()).authority == serving


async def test_such_a_server_takes_a_cut_over_back(
    place: Place, served: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Roles: it may not finish another one's cut-over, says so, and lets no write wait for it."""

    class Stopped(BaseException):
        """Stands for the end of a process: nothing is cleaned up after it."""

    def reached(step: str) -> None:
        if step == "settle done":
            raise Stopped

    store = opened(served)
    async with SessionManager(store, sweep_interval=None) as manager:
        new = await manager.create_session("u1")
        async with place.mover(reached=reached) as mover:
            await mover.start()
            token = await mover._leased()
            async with mover._postgresql.step("cut", token, "following") as step:
                # Long, so that it is not over before somebody may take the lease.
                await step.cut(timedelta(hours=1))
            with pytest.raises(Stopped):
                await mover.run()
            mover._token = None
        await lapse()
        with caplog.at_level(logging.WARNING, "holdfast.move"):
            assert await manager.validate_session(new.token) is not None
        assert store.serving == "sqlite"
        assert "cannot finish it" in caplog.text
        assert "taken back" in caplog.text
