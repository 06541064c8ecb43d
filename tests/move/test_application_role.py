"""Servers whose role may only write sessions, while the owner of the tables moves them."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from holdfast import SessionManager, StoreOptions, TwoStores
from holdfast.move.following import FollowingStore
from holdfast.move.processes import processes_seen
from holdfast.move.status import StatusReader
from holdfast.opening import open_store
from holdfast.sql import schema
from tests.move.bench import Place
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


class Stopped(BaseException):
    """Stands for the end of a process: nothing is cleaned up after it."""


async def left_in(place: Place, at: str) -> None:
    """Leave a decision as a mover does that was killed after a step."""

    def reached(step: str) -> None:
        if step == at:
            raise Stopped

    async def go() -> None:
        await mover.start()
        token = await mover._leased()
        if at in ("fence done", "give back done"):
            await mover.cut_over()
            await mover._fence(token, timedelta(hours=1))
        else:
            async with mover._postgresql.step("cut", token, "following") as step:
                # Long, so that it is not over before somebody may take the lease.
                await step.cut(timedelta(hours=1))
        await mover.run()

    async with place.mover(reached=reached) as mover:
        with pytest.raises(Stopped):
            await go()
        mover._token = None
    await place.lapse()


@pytest.mark.parametrize(
    ("at", "serving"),
    [
        pytest.param("settle done", "postgresql", marks=pytest.mark.soak),
        ("decide done", "postgresql"),
        ("fence done", "sqlite"),
        pytest.param("give back done", "sqlite", marks=pytest.mark.soak),
    ],
)
async def test_such_a_server_finishes_what_a_mover_left(place: Place, served: Place, at: str, serving: str) -> None:
    """Roles: a decision whose mover died is brought to its end by a server that owns nothing, either way."""
    store = opened(served)
    async with SessionManager(store, sweep_interval=None) as manager:
        new = await manager.create_session("u1")
        await left_in(place, at)
        assert await manager.validate_session(new.token) is not None
        assert store.serving == serving
        async with place.mover() as mover:
            await (mover.roll_back if serving == "postgresql" else mover.cut_over)()
        assert await manager.validate_session(new.token) is not None


async def test_such_a_server_can_do_nothing_else_to_the_move(place: Place, served: Place) -> None:
    """Roles: it opens nothing out of turn, closes nothing, and others may not even do that much."""
    async with place.mover() as mover:
        await mover.start()
        token = await mover._leased()
    for goal in ("open", "stay", "give back", "fence"):
        for number in (token, token - 1):
            assert await served.in_postgresql(f"SELECT holdfast_move_switch({number}, '{goal}') AS done") == [(False,)]
    for statement in ("UPDATE holdfast_move SET move = gen_random_uuid()", "DELETE FROM holdfast_move"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await served.in_postgresql(statement)
    [(public,)] = await place.in_postgresql(
        "SELECT has_function_privilege('pg_read_all_data', 'holdfast_move_switch(bigint, text)', 'EXECUTE')"
    )
    assert not public


async def test_a_server_without_those_rights_takes_a_cut_over_back(
    place: Place, served: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Roles: one that got its role after the start may not finish it, says so, and lets no write wait for it."""
    store = opened(served)
    async with SessionManager(store, sweep_interval=None) as manager:
        new = await manager.create_session("u1")
        await left_in(place, "settle done")
        await place.in_postgresql(f"REVOKE UPDATE (owner) ON holdfast_move FROM {ROLE}")
        with caplog.at_level(logging.WARNING, "holdfast.move"):
            assert await manager.validate_session(new.token) is not None
        assert store.serving == "sqlite"
        assert "cannot finish it" in caplog.text
        assert "taken back" in caplog.text
