"""A page of another origin than the server's: no cookie goes along, a one-time ticket opens its socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest_asyncio
from playwright.async_api import Page

from tests.browser.chatting import chatting
from tests.browser.conftest import Visit
from tests.browser.scripted import ScriptedServer

APPLICATION = "application-credential-of-the-tests"


class BackEnd:
    """What the page's own server does for it: it holds the session's token, and asks for tickets with it."""

    def __init__(self, address: str, origin: str) -> None:
        """`address` is Holdfast's, `origin` the page's."""
        self.address = address
        self.origin = origin
        self.tickets: list[str] = []
        created = self._ask("POST", "", APPLICATION, {"user_id": "ada"})
        self._token = created.json()["token"]

    async def ticket(self) -> str | None:
        """A fresh one; `None` once the session is over."""
        answer = self._ask("POST", "/current/ticket", self._token, {"origin": self.origin})
        if answer.status_code == 401:
            return None
        self.tickets.append(answer.json()["ticket"])
        return self.tickets[-1]

    def log_out(self) -> None:
        """End the session, as its user does on the page's own site."""
        assert self._ask("DELETE", "/current", self._token).status_code == 204

    def _ask(self, method: str, path: str, credential: str, body: dict[str, str] | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {credential}"}
        return httpx2.request(method, f"{self.address}/api/v1/sessions{path}", headers=headers, json=body)


@pytest_asyncio.fixture(loop_scope="session")
async def page(visit: Visit) -> AsyncIterator[Page]:
    """A page of an origin of its own."""
    async with ScriptedServer().running() as other:
        yield await visit(other.address)


async def state(page: Page, wanted: str) -> None:
    """Wait until the connection is in this state."""
    await page.wait_for_function("(wanted) => connection.state === wanted", arg=wanted)


async def test_tickets_open_the_sockets_of_another_origin(page: Page, tmp_path: Path) -> None:
    """A fresh ticket for each socket, used up by it (S-40); revoked closes it, and then no ticket is to be had."""
    origin = page.url.rstrip("/")
    settings = {"HOLDFAST_ALLOWED_ORIGINS": origin, "HOLDFAST_APP_TOKEN": APPLICATION}
    with chatting(tmp_path, "server", settings=settings) as server:
        back_end = BackEnd(server.address, origin)
        await page.expose_function("freshTicket", back_end.ticket)
        await page.evaluate(
            """async (url) => {
                const { connect } = await import("/holdfast/client.js");
                window.messages = [];
                window.connection = connect(url, {
                    ticket: () => freshTicket(),
                    onMessage: (data) => messages.push(data),
                    base: 50,
                    cap: 200,
                });
            }""",
            f"{server.address}/ws",
        )
        await state(page, "open")
        await page.evaluate("connection.send('hello')")
        await page.wait_for_function("() => messages.length === 1")
        assert await page.evaluate("messages") == ["hello"]
        server.ask_to_stop()
        await state(page, "reconnecting")
        server.wait()
        server.start()
        await state(page, "open")
        # While the server was away none could be had; each one that could be was another.
        assert len(back_end.tickets) == len(set(back_end.tickets)) >= 2
        back_end.log_out()
        await state(page, "revoked")
        await page.evaluate("connection.restart()")
        await state(page, "login-needed")
        assert not any(ticket in server.log for ticket in back_end.tickets)
