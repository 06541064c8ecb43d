"""The real application over a store that can fail, and a client for each of those who may ask."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
from fastapi import FastAPI

from holdfast.memory import MemoryStore
from holdfast.server.app import create_app
from holdfast.server.health import Readiness
from holdfast.sessions.manager import SessionManager
from holdfast.settings import Settings
from holdfast.testing import FaultyStore, MovableClock

APPLICATION = "application-credential-of-the-tests"
OPERATOR = "operator-credential-of-the-tests-"
BASE = "http://holdfast.test/api/v1/"

SETTINGS = Settings(
    application_credentials=(APPLICATION,), operator_credentials=(OPERATOR,), sweep_interval_seconds=None
)


def bearer(credential: str) -> dict[str, str]:
    """The header that presents a credential."""
    return {"Authorization": f"Bearer {credential}"}


class Api:
    """A running application, with short ways to ask it."""

    def __init__(self, app: FastAPI, store: FaultyStore, clock: MovableClock, client: httpx2.AsyncClient) -> None:
        self.app = app
        self.store = store
        self.clock = clock
        self.client = client

    @property
    def manager(self) -> SessionManager:
        """The manager behind the application."""
        manager = self.app.state.manager
        assert isinstance(manager, SessionManager)
        return manager

    @property
    def readiness(self) -> Readiness:
        """The prober behind `/readyz`."""
        readiness = self.app.state.readiness
        assert isinstance(readiness, Readiness)
        return readiness

    async def ask(self, method: str, path: str, credential: str | None = None, **options: Any) -> httpx2.Response:
        """One request, with a bearer credential if one is given."""
        headers = {**(bearer(credential) if credential is not None else {}), **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def raw(self, method: str, path: str, body: bytes, credential: str = APPLICATION) -> httpx2.Response:
        """A JSON request whose body is exactly these bytes."""
        return await self.ask(method, path, credential, content=body, headers={"Content-Type": "application/json"})

    async def create(self, user_id: str | None = "u1", **metadata: Any) -> dict[str, str]:
        """A new session: its id, token and expiry."""
        body = {"metadata": metadata} | ({} if user_id is None else {"user_id": user_id})
        response = await self.ask("POST", "sessions", APPLICATION, json=body)
        assert response.status_code == 201, response.text
        created: dict[str, str] = response.json()
        return created

    async def show(self, session_id: str) -> dict[str, Any] | None:
        """A session as the operator sees it, `None` when it is not live."""
        response = await self.ask("GET", f"sessions/{session_id}", OPERATOR)
        if response.status_code == 404:
            return None
        shown: dict[str, Any] = response.json()
        return shown


@asynccontextmanager
async def running(address: tuple[str, int] = ("192.0.2.1", 50_000), **changes: Any) -> AsyncIterator[Api]:
    """An application with changed settings, started; its client asks from `address`."""
    store, clock = FaultyStore(MemoryStore()), MovableClock()
    settings = replace(SETTINGS, **changes)
    app = create_app(settings, settings.manager(store, clock))
    transport = httpx2.ASGITransport(app, client=address)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=BASE) as client,
    ):
        yield Api(app, store, clock, client)
