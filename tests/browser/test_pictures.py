"""The pictures of the chat in docs/images: taken like this, from the running thing, whenever somebody asks for them.

`make pictures` writes them to docs/images; the tests take the same ones into a folder of their own, so that they can
still be taken. They look best where the font Inter is installed (Debian: fonts-inter).
"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.chatting import ChatServer, Visitor, chatting
from tests.browser.conftest import Visit

VARIABLE = "HOLDFAST_TEST_PICTURES"
DESK: dict[str, Any] = {"viewport": {"width": 1040, "height": 680}, "timezone_id": "UTC", "locale": "en"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 680},
    "timezone_id": "UTC",
    "locale": "en",
    "color_scheme": "dark",
    "user_agent": "Mozilla/5.0 (Linux; Android 15; Mobile) AppleWebKit/537.36 Chrome/150.0 Mobile Safari/537.36",
}
# A day that just began to count down looks as if nothing moved.
SETTINGS = {"HOLDFAST_SESSION_TTL_HOURS": "8"}

_BESIDE = """<!DOCTYPE html>
<style>
  body { margin: 0; display: flex; gap: 28px; padding: 28px; width: max-content; background: #cfdcd7;
         font: 500 17px/1.3 Inter, system-ui, "Liberation Sans", sans-serif; color: #17282c; }
  figure { margin: 0; }
  figcaption { margin: 0 6px 10px; }
  img { display: block; border-radius: 16px; box-shadow: 0 12px 40px rgb(0 0 0 / 25%); }
</style>
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ChatServer, ChatServer]]:
    """Two servers on one file."""
    folder = tmp_path_factory.mktemp("pictures")
    database = ("--sqlite", str(folder / "sessions.db"))
    with (
        chatting(folder, "one", *database, settings=SETTINGS) as one,
        chatting(folder, "two", *database, settings=SETTINGS) as two,
    ):
        yield one, two


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the pictures go."""
    return Path(os.environ.get(VARIABLE) or tmp_path)


async def take(page: Page, path: Path | None = None) -> bytes:
    """A picture of a page that has come to rest."""
    await page.evaluate(
        """() => Promise.all(document.getAnimations()
            .filter((each) => each.effect.getComputedTiming().endTime !== Infinity)
            .map((each) => each.finished.catch(() => null)))"""
    )
    picture = await page.screenshot(path=path, animations="disabled", caret="hide")
    assert picture.startswith(b"\x89PNG")
    return picture


async def beside(visit: Visit, path: Path, *pictures: tuple[str, bytes]) -> None:
    """Pictures beside each other, each under its title, as one picture."""
    figures = "".join(
        f'<figure><figcaption>{title}</figcaption><img src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        "</figure>"
        for title, data in pictures
    )
    page = await visit("about:blank", viewport={"width": 1514, "height": 100})
    await page.set_content(_BESIDE + figures)
    await page.screenshot(path=path, full_page=True)


async def test_pictures_of_a_conversation(servers: tuple[ChatServer, ChatServer], visit: Visit, folder: Path) -> None:
    """The way in, people talking in both colour schemes, and one device logging the other out."""
    one, two = servers
    await take((await visit(one.address, **DESK)), folder / "chat-way-in.png")
    ada, grace, lin, phone, sam = [
        Visitor(await visit(server.address, **options))
        for server, options in (
            (one, DESK),
            (one, DESK),
            (one, DESK | {"color_scheme": "dark"}),
            (two, PHONE),
            (two, DESK),
        )
    ]
    for visitor, name in ((phone, "Ada"), (sam, "Sam"), (ada, "Ada"), (grace, "Grace"), (lin, "Lin")):
        await visitor.come_in(name)
    await grace.say("Is the new version out?")
    await ada.say("Since this morning, while everybody was talking.")
    await lin.say("I saw “reconnecting” for a second, and that was all.")
    await lin.say("Nobody asked me to log in again.")
    await ada.say("That was the idea. Sessions are on the disk, not in the process.")
    await grace.say("And my old laptop in the office? It is still logged in there, I think…")
    await ada.say("“Log out the others”, on the right. It takes a blink, and the old one says why.")
    await sam.say("Are you at your desk?")
    await phone.say("On my way, two minutes.")
    await sam.say("Good, the others are waiting over there.")
    await expect(ada.devices).to_have_count(2)
    await take(ada.page, folder / "chat.png")
    await take(lin.page, folder / "chat-dark.png")
    await ada.others.click()
    await phone.is_told("Logged out elsewhere", "close code 4403")
    await expect(ada.page.get_by_text("One other device was logged out.")).to_be_visible()
    await beside(
        visit,
        folder / "chat-logged-out-elsewhere.png",
        ("Ada at her desk, on one server, presses “Log out the others”.", await take(ada.page)),
        ("Her phone, on the other server.", await take(phone.page)),
    )


async def test_pictures_of_a_restart_and_an_expiry(tmp_path: Path, visit: Visit, folder: Path) -> None:
    """What the page shows while its server restarts, and once its session has expired."""
    short = {"HOLDFAST_SESSION_TTL_HOURS": "0.003"}
    with chatting(tmp_path, "chat", settings=SETTINGS) as server:
        grace, ada = Visitor(await visit(server.address, **DESK)), Visitor(await visit(server.address, **DESK))
        await grace.come_in("Grace")
        await ada.come_in("Ada")
        await grace.say("I am about to deploy the new version.")
        await ada.say("Now? There are forty people in here.")
        await grace.say("They will not notice. Their sockets close, and open again on the new one.")
        await ada.say("Go ahead, I keep talking.")
        server.ask_to_stop()
        await expect(ada.status).to_have_text("Reconnecting")
        await ada.text.fill("Written while the server was away: it waits here until it can be sent.")
        await take(ada.page, folder / "chat-restarting.png")
        server.wait()
        server.start()
        await ada.is_connected()
    with chatting(tmp_path, "short", "--sqlite", "short.db", settings=short) as server:
        grace, ada = Visitor(await visit(server.address, **DESK)), Visitor(await visit(server.address, **DESK))
        await grace.come_in("Grace")
        await ada.come_in("Ada")
        await grace.say("How long does a session last here?")
        await ada.say("Ten seconds, for the picture.")
        await ada.is_told("Your session has expired", "close code 4401, expired")
        await take(ada.page, folder / "chat-expired.png")
