"""Clients that go away in the middle of their request, through the middleware that applications like to use (F-32)."""

import asyncio
import random
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from holdfast import SessionManager
from holdfast.web.cookies import DEFAULT_NAME
from holdfast.web.middleware import HoldfastMiddleware
from tests.support.polling import eventually
from tests.support.ports import LOOPBACK
from tests.web.serving import ask, listening
from tests.web.site import running, starlette_site


class Between(BaseHTTPMiddleware):
    """What many applications have: it runs what is inside in a task of its own, which ends with the client."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass it on."""
        return await call_next(request)


def site_inside(manager: SessionManager, **options: Any) -> Any:
    """The application with such a middleware inside ours and another one outside."""
    site = starlette_site(manager)
    site.user_middleware[:] = [
        Middleware(Between),
        Middleware(HoldfastMiddleware, manager=manager, **options),
        Middleware(Between),
    ]
    return site


def cookie(token: str) -> bytes:
    """The header line of a browser with this token."""
    return f"Cookie: {DEFAULT_NAME}={token}".encode()


@pytest.mark.parametrize("build", [starlette_site, site_inside])
async def test_answers_belong_to_their_askers(build: Any) -> None:
    """S-80, F-32: of 200 requests half are cut off at random moments; every other answer is about its own cookie."""
    async with running(build) as site, listening(site.app) as port:
        tokens = {f"u{number}": (await site.manager.create_session(f"u{number}")).token for number in range(20)}
        seed = random.randrange(2**32)
        chance = random.Random(seed)

        async def whole(user: str) -> None:
            answer = await ask(port, "GET", "/me", cookie(tokens[user]))
            assert (answer.status, f'"user":"{user}"'.encode() in answer.body) == (200, True), f"seed {seed}"

        async def cut(user: str, turns: int) -> None:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"GET /me HTTP/1.1\r\nHost: app.test\r\n" + cookie(tokens[user]) + b"\r\n\r\n")
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()

        users = [chance.choice(list(tokens)) for _ in range(200)]
        await asyncio.gather(
            *(whole(user) if number % 2 else cut(user, chance.randrange(30)) for number, user in enumerate(users))
        )
        for user, token in tokens.items():
            session = await site.manager.get_session(token)
            assert session is not None
            answered = sum(each == user for number, each in enumerate(users) if number % 2)
            assert answered <= session.request_count <= users.count(user), f"seed {seed}"


@pytest.mark.parametrize("build", [starlette_site, site_inside])
async def test_a_log_in_whose_client_is_gone(build: Any) -> None:
    """F-32: the session before is ended all the same, and the next request of anybody is served."""
    async with running(build) as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token
        fault = site.store.stall("create")
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(
            b"POST /log-in?user=u2 HTTP/1.1\r\nHost: app.test\r\nSec-Fetch-Site: same-origin\r\n"
            + cookie(token)
            + b"\r\n\r\n"
        )
        await fault.arrived.wait()
        writer.transport.abort()
        fault.release()

        async def ended() -> bool:
            return await site.manager.get_session(token) is None

        await eventually(ended, what="the session before has ended")
        other = (await site.manager.create_session("u3")).token
        assert (await ask(port, "GET", "/me", cookie(other))).status == 200
