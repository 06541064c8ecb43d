"""The manager's life beside the application's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from holdfast import SessionManager, StoreUnavailable
from holdfast.memory import MemoryStore
from holdfast.testing import FaultyStore
from holdfast.web.lifespan import Lifespan, session_lifespan
from tests.web.serving import ask, listening
from tests.web.site import fastapi_site

Application = type[FastAPI] | type[Starlette]
APPLICATIONS = pytest.mark.parametrize("kind", [FastAPI, Starlette])


async def is_open(manager: SessionManager) -> bool:
    """Whether the manager answers."""
    try:
        return await manager.get_active_session_count() >= 0
    except StoreUnavailable:
        return False


def made(kind: Application, lifespan: Lifespan) -> FastAPI | Starlette:
    """An application with a lifespan."""
    return kind(lifespan=lifespan)


@APPLICATIONS
async def test_the_manager_is_open_while_the_application_is(kind: Application) -> None:
    """Not before and not after; a second start opens it again."""
    manager = SessionManager(MemoryStore())
    app = made(kind, session_lifespan(manager))
    for _ in range(2):
        assert not await is_open(manager)
        async with app.router.lifespan_context(app):
            assert await is_open(manager)
    assert not await is_open(manager)


@APPLICATIONS
async def test_it_goes_around_a_lifespan_of_ones_own(kind: Application) -> None:
    """The application's own finds the manager open at its beginning and at its end, and its state arrives."""
    manager = SessionManager(MemoryStore())
    seen: list[object] = []

    @asynccontextmanager
    async def own(app: FastAPI | Starlette) -> AsyncIterator[dict[str, str]]:
        seen.extend((app, await is_open(manager)))
        yield {"greeting": "hello"}
        seen.append(await is_open(manager))

    app = made(kind, session_lifespan(manager, own))
    async with app.router.lifespan_context(app) as state:
        assert state == {"greeting": "hello"}
    assert seen == [app, True, True]


@APPLICATIONS
async def test_it_goes_inside_a_lifespan_of_ones_own(kind: Application) -> None:
    """It is an asynchronous context of the application, so a lifespan can enter it where it likes."""
    manager = SessionManager(MemoryStore())

    @asynccontextmanager
    async def own(app: FastAPI | Starlette) -> AsyncIterator[None]:
        async with session_lifespan(manager)(app):
            assert await is_open(manager)
            yield

    app = made(kind, own)
    async with app.router.lifespan_context(app):
        assert await is_open(manager)
    assert not await is_open(manager)


async def test_an_application_does_not_start_without_its_store() -> None:
    """The store's error ends the start; the next one may succeed."""
    store = FaultyStore(MemoryStore())
    manager = SessionManager(store)
    app = made(FastAPI, session_lifespan(manager))
    store.fail("open")
    with pytest.raises(StoreUnavailable):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")
    async with app.router.lifespan_context(app):
        assert await is_open(manager)


async def test_a_served_application_opens_and_closes_it() -> None:
    """With a real server around: open before the first request, closed when the server has stopped."""
    manager = SessionManager(MemoryStore())
    async with listening(fastapi_site(manager)) as port:
        answer = await ask(port, "POST", "/log-in?user=u1", b"Sec-Fetch-Site: same-origin")
        assert answer.status == 200
        assert await manager.get_active_session_count() == 1
    assert not await is_open(manager)
