"""How the chat ends and comes back, in a real browser, on real server processes, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from playwright.async_api import WebSocket, expect

from tests.browser.chatting import ChatServer, Visitor, chatting
from tests.browser.conftest import Visit
from tests.conftest import MigratedDatabases

#: `start("one", HOLDFAST_…="…")` is a running chat on this test's database; every call another process.
Start = Callable[..., ChatServer]

SHORT = {"HOLDFAST_SESSION_TTL_HOURS": "0.002"}
"""7.2 seconds, of which the guard warns at the last 1.8."""


@pytest.fixture(params=["postgresql", "sqlite"])
def start(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: MigratedDatabases) -> Iterator[Start]:
    """Each database in turn: one PostgreSQL, or one file."""
    if request.param == "postgresql":
        database = ("--postgres", migrated_database(18))
    else:
        database = ("--sqlite", str(tmp_path / "sessions.db"))
    with ExitStack() as stack:

        def run(name: str, **settings: str) -> ChatServer:
            running: AbstractContextManager[ChatServer] = chatting(tmp_path, name, *database, settings=settings)
            return stack.enter_context(running)

        yield run


async def test_one_device_logs_the_other_out(start: Start, visit: Visit) -> None:
    """Two servers, one user, two devices: "log out the others" on one closes the other's socket, which says why.

    (promise 6, S-44) The socket is closed with 4403, and the page shows it at once.
    """
    one, two = start("one"), start("two")
    desk = Visitor(await visit(one.address))
    phone = Visitor(await visit(two.address, viewport={"width": 390, "height": 844}))
    await desk.come_in("Ada")
    await phone.come_in("Ada")
    somebody = Visitor(await visit(two.address))
    await somebody.come_in("Grace")
    await phone.say("from the phone")
    await desk.page.reload()
    await expect(desk.devices).to_have_count(2)
    await desk.others.click()
    await expect(desk.page.get_by_text("One other device was logged out.")).to_be_visible()
    await phone.is_told("Logged out elsewhere", "close code 4403")
    # Whoever ended it goes on, and so does everybody else on the server where it ended.
    await desk.say("still here")
    await somebody.say("me too")
    await expect(desk.devices).to_have_count(1)
    # The phone's cookie is still there, and opens nothing.
    await phone.page.reload()
    await expect(phone.name).to_be_visible()
    await phone.come_in("Ada")


async def test_a_restart_is_a_pause(start: Start, visit: Visit) -> None:
    """SIGTERM closes the socket with 1012; the page waits, and is back with the same session once a server is there."""
    server = start("one")
    visitor = Visitor(await visit(server.address))
    await visitor.come_in("Ada")
    await visitor.say("before the restart")
    before = await visitor.page.context.cookies()
    server.ask_to_stop()
    await expect(visitor.status).to_have_text("Reconnecting")
    await expect(visitor.banner).to_contain_text("The server is restarting. This page comes back by itself.")
    await expect(visitor.button("Send")).to_be_disabled()
    server.wait()
    # What is written meanwhile is not lost: it stays in its field until it can be sent.
    await visitor.text.fill("written while it was away")
    await visitor.text.press("Enter")
    await expect(visitor.text).to_have_value("written while it was away")
    server.start()
    await visitor.is_connected()
    await expect(visitor.banner).to_be_hidden()
    await visitor.text.press("Enter")
    await expect(visitor.messages.last).to_have_text("written while it was away")
    # The room of a new process is empty. The page keeps what it has, and says where the new one begins.
    await expect(visitor.messages.first).to_have_text("before the restart")
    await expect(visitor.page.get_by_role("log")).to_contain_text("it does not remember what stands above")
    await expect(visitor.devices).to_have_count(1)
    assert await visitor.page.context.cookies() == before


async def test_a_session_that_ended_during_a_restart(start: Start, visit: Visit) -> None:
    """Revoked while its page was away from the server: the page does not go on trying, and asks for a log-in."""
    one, two = start("one"), start("two")
    visitor, other = Visitor(await visit(one.address)), Visitor(await visit(two.address))
    await visitor.come_in("Ada")
    await other.come_in("Ada")
    one.ask_to_stop()
    await expect(visitor.status).to_have_text("Reconnecting")
    one.wait()
    await other.others.click()
    await expect(other.devices).to_have_count(1)
    one.start()
    await visitor.is_told("You are not logged in any more", "close code 3000, unauthenticated")


async def test_an_expired_session_asks_for_a_log_in(start: Start, visit: Visit) -> None:
    """Without any traffic the page hears of the end when it is due (S-43), and the way back is a log-in."""
    server = start("one", **SHORT)
    visitor = Visitor(await visit(server.address))
    await visitor.come_in("Ada")
    await expect(visitor.page.get_by_role("alert")).to_contain_text("Your session is about to end.")
    await visitor.is_told("Your session has expired", "close code 4401, expired")
    await visitor.button("Log in again").click()
    await visitor.come_in("Ada")
    await expect(visitor.devices).to_have_count(1)


async def test_staying_logged_in(start: Start, visit: Visit) -> None:
    """The warning offers to extend the session over the socket; it is then as long as a new one."""
    server = start("one", **SHORT)
    visitor = Visitor(await visit(server.address))
    sockets: list[WebSocket] = []
    frames: list[str | bytes] = []

    def received(frame: str | bytes) -> None:
        frames.append(frame)

    def opened(socket: WebSocket) -> None:
        sockets.append(socket)
        socket.on("framereceived", received)

    visitor.page.on("websocket", opened)
    await visitor.come_in("Ada")
    await visitor.button("Stay logged in").click()
    await expect(visitor.button("Stay logged in")).to_be_hidden()
    await expect(visitor.page.get_by_role("timer")).to_have_text("7 s")
    assert sum('"extended"' in str(frame) for frame in frames) == 1
    await visitor.say("still the same socket")
    assert len(sockets) == 1


async def test_a_session_that_nobody_uses_ends(start: Start, visit: Visit) -> None:
    """The idle timeout closes the socket, though the server has pinged it all the while (S-46)."""
    server = start("one", HOLDFAST_IDLE_TIMEOUT_SECONDS="3")
    visitor = Visitor(await visit(server.address))
    await visitor.come_in("Ada")
    await visitor.is_told("You were away for long", "close code 4401, idle")


async def test_a_newer_log_in_takes_the_place(start: Start, visit: Visit) -> None:
    """With a cap that evicts, the older device's socket closes with 4409 on any server, and says why (S-23)."""
    settings = {"HOLDFAST_MAX_SESSIONS_PER_USER": "1", "HOLDFAST_AT_CAP": "evict"}
    one, two = start("one", **settings), start("two", **settings)
    older, newer = Visitor(await visit(one.address)), Visitor(await visit(two.address))
    await older.come_in("Ada")
    await newer.come_in("Ada")
    await older.is_told("Too many devices", "close code 4409")
    await newer.say("I have the place")


async def test_a_connection_that_the_server_refuses_to_go_on_with(start: Start, visit: Visit) -> None:
    """Sending far too fast closes with 1008 (S-47). Nothing is tried again until the visitor says so."""
    server = start("one", HOLDFAST_MESSAGES_PER_SECOND="1")
    visitor = Visitor(await visit(server.address))
    await visitor.come_in("Ada")
    await visitor.text.fill("quick")
    await visitor.page.evaluate(
        """() => {
            const [field, form] = [document.getElementById("text"), document.getElementById("composer")];
            for (let each = 0; each < 20; each += 1) { field.value = `quick ${each}`; form.requestSubmit(); }
        }"""
    )
    await visitor.is_told("The connection was closed", "close code 1008, too fast")
    await visitor.button("Connect again").click()
    await visitor.is_connected()
    await visitor.say("slowly")
