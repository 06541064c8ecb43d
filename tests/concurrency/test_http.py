"""From end to end over HTTP: a hundred clients at once, two server processes, one database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.concurrency.place import Place
from tests.concurrency.serving import APPLICATION, OPERATOR, serving
from tests.support.admin import execute
from tests.support.kept import KEPT

CLIENTS = 100
VALIDATES = 20


@pytest.fixture
def servers(process_place: Place, tmp_path: Path) -> Iterator[list[str]]:
    """The base addresses of two server processes on one store."""
    # A hundred clients at once, and not one of them is to be refused because a busy machine let it wait.
    settings = {
        "DATABASE_URL": process_place.address,
        "HOLDFAST_DEADLINE_SECONDS": "60",
        "HOLDFAST_CONNECTIONS": "30",
    }
    with (
        serving(tmp_path, "one", "holdfast", "serve", settings=settings) as one,
        serving(tmp_path, "two", "holdfast", "serve", settings=settings) as two,
    ):
        yield [one, two]


class Client:
    """One user's application: it asks the two servers in turn and writes down every status."""

    def __init__(self, number: int, connections: list[httpx2.AsyncClient], statuses: Counter[int]) -> None:
        self.user = f"user-{number}"
        self.connections = connections
        self.statuses = statuses
        self.asked = number

    async def ask(self, method: str, path: str, credential: str, **options: Any) -> httpx2.Response:
        """One request to the next server."""
        self.asked += 1
        response = await self.connections[self.asked % len(self.connections)].request(
            method, f"/api/v1/{path}", headers={"Authorization": f"Bearer {credential}"}, **options
        )
        self.statuses[response.status_code] += 1
        return response

    async def validate(self, token: str) -> dict[str, Any] | None:
        """What the application learns about a token."""
        response = await self.ask("POST", "sessions/validate", APPLICATION, json={"token": token})
        body = response.json()
        assert body["active"] is (body["session"] is not None)
        session: dict[str, Any] | None = body["session"]
        return session

    async def live(self) -> None:
        """Create, validate, rotate, validate, log out; every answer is about this client's session."""
        created = (await self.ask("POST", "sessions", APPLICATION, json={"user_id": self.user})).json()
        for number in range(1, VALIDATES + 1):
            session = await self.validate(created["token"])
            assert session is not None
            assert (session["id"], session["user_id"]) == (created["id"], self.user)
            assert session["request_count"] == number
        rotated = (await self.ask("POST", "sessions/current/rotate", created["token"])).json()
        assert rotated["id"] == created["id"]
        assert await self.validate(created["token"]) is None
        session = await self.validate(rotated["token"])
        assert session is not None
        assert (session["id"], session["request_count"]) == (created["id"], VALIDATES + 1)
        own = await self.ask("GET", "sessions/current", rotated["token"])
        assert own.json()["id"] == created["id"]
        assert (await self.ask("DELETE", "sessions/current", rotated["token"])).status_code == 204
        # On both servers, whichever of them ended it.
        for _ in range(2):
            assert await self.validate(rotated["token"]) is None
            assert (await self.ask("GET", "sessions/current", rotated["token"])).status_code == 401


@asynccontextmanager
async def clients(addresses: list[str], statuses: Counter[int]) -> AsyncIterator[list[Client]]:
    """A hundred clients, each with connections of its own."""
    async with AsyncExitStack() as stack:
        # One context for all: to load the system's certificates a hundred times would take seconds.
        context = httpx2.create_ssl_context()

        async def connected(address: str) -> httpx2.AsyncClient:
            return await stack.enter_async_context(
                httpx2.AsyncClient(base_url=address, verify=context, timeout=60, limits=KEPT)
            )

        yield [
            Client(number, [await connected(address) for address in addresses], statuses) for number in range(CLIENTS)
        ]


async def test_a_hundred_clients_on_two_servers(process_place: Place, servers: list[str]) -> None:
    """Every answer carries its asker's session, every count is exact, an end holds on both servers, nothing fails."""
    statuses: Counter[int] = Counter()
    async with clients(servers, statuses) as everybody:
        await asyncio.gather(*(client.live() for client in everybody))
        # Beside its validates, each client got one 200 for the rotation, one for its own look and four more validates.
        assert statuses == {201: CLIENTS, 200: CLIENTS * (VALIDATES + 6), 204: CLIENTS, 401: CLIENTS * 2}
        stats = (await everybody[0].ask("GET", "stats", OPERATOR)).json()
        assert stats["active_sessions"] == 0
    if process_place.kind == "postgresql":
        counted = execute(process_place.address, "SELECT count(*), sum(request_count) FROM sessions")
        assert counted == [[CLIENTS, CLIENTS * (VALIDATES + 1)]]


async def test_a_user_logs_out_everywhere(servers: list[str]) -> None:
    """Sessions of one user made on both servers all end by one request to one of them; those of others go on."""
    statuses: Counter[int] = Counter()
    async with clients(servers, statuses) as everybody:
        body = {"json": {"user_id": "u1"}}
        made = await asyncio.gather(*(client.ask("POST", "sessions", APPLICATION, **body) for client in everybody))
        other = (await everybody[0].ask("POST", "sessions", APPLICATION, json={"user_id": "u2"})).json()
        revoked = await everybody[0].ask("DELETE", "users/u1/sessions", APPLICATION)
        assert revoked.json() == {"revoked": CLIENTS}
        tokens = [response.json()["token"] for response in made]
        answers = await asyncio.gather(
            *(client.validate(token) for client, token in zip(everybody, tokens, strict=True))
        )
        assert answers == [None] * CLIENTS
        assert await everybody[1].validate(other["token"]) is not None
        assert not any(status >= 500 for status in statuses)
