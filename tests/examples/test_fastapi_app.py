"""The FastAPI example: log in, look, log out."""

import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from holdfast import StoreUnavailable, get_session_manager

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fastapi_app.py"


def bearer(token: str) -> dict[str, str]:
    """The header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module, freshly loaded, on a store of this test's own."""
    monkeypatch.setattr("holdfast.sessions.process._managers", {})
    for name in [each for each in os.environ if each.startswith(("HOLDFAST_", "SESSION_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'sessions.db'}")
    specification = importlib.util.spec_from_file_location("fastapi_app_example", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # FastAPI looks annotations up where the module says that it is.
    monkeypatch.setitem(sys.modules, specification.name, module)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
async def client(example: ModuleType) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the running example."""
    transport = httpx2.ASGITransport(example.app)
    async with (
        example.app.router.lifespan_context(example.app),
        httpx2.AsyncClient(transport=transport, base_url="http://example.test") as asking,
    ):
        yield asking


async def test_log_in_look_and_log_out(client: httpx2.AsyncClient) -> None:
    """A token opens the protected route from log-in to log-out, and each look is counted."""
    answer = await client.post("/login", json={"user": "ada", "password": "lovelace"})
    token = answer.json()["token"]
    for number in (1, 2):
        shown = await client.get("/me", headers=bearer(token))
        assert shown.json() == {"user": "ada", "theme": "dark", "requests": number}
    for _ in range(2):
        assert (await client.post("/logout", headers=bearer(token))).status_code == 204
    assert (await client.get("/me", headers=bearer(token))).status_code == 401


@pytest.mark.parametrize("headers", [{}, bearer("hfs_made-up"), {"Authorization": "Basic YTpi"}])
async def test_nobody_else_gets_in(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """No token, a made-up one and another scheme are all the same 401."""
    answer = await client.get("/me", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": "log in first"})


async def test_a_wrong_password_begins_nothing(client: httpx2.AsyncClient) -> None:
    """Log-in refuses a wrong password and an unknown user, and creates no session."""
    for user in ("ada", "nobody"):
        assert (await client.post("/login", json={"user": user, "password": "wrong"})).status_code == 401
    assert await get_session_manager().get_active_session_count() == 0


async def test_a_store_out_of_reach_is_no_log_out(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is away a client hears 503, not 401, and keeps its token."""

    async def away(_: str) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(get_session_manager(), "validate_session", away)
    answer = await client.get("/me", headers=bearer("any"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_it_stays_short(example: ModuleType) -> None:
    """It is there to be copied: under eighty lines."""
    assert example.__file__ is not None
    assert len(Path(example.__file__).read_text().splitlines()) < 80
