"""The chat as one visitor sees it: coming in, talking, leaving; by keyboard, by ear, and in both colour schemes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.chatting import ChatServer, Visitor, chatting
from tests.browser.conftest import Visit

# What the page could be made to run if anything that somebody wrote were taken for markup.
PAYLOADS = [
    "<script>window.hacked = true</script>",
    "<img src=x onerror='window.hacked = true'>",
    "<svg onload=window.hacked=true>",
    "</p></li><iframe srcdoc='<script>parent.hacked = true</script>'></iframe>",
    "<style>* { display: none }</style><b>bold</b>",
    "javascript:window.hacked=true",
    "\u202eevil\u202c &lt;b&gt; {{7*7}} ${7*7}",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """One chat for the tests of this file; each has names of its own."""
    with chatting(tmp_path_factory.mktemp("chat"), "chat") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(server: ChatServer, visit: Visit) -> AsyncIterator[Visitor]:
    """Somebody who has opened the page, and has no session."""
    yield Visitor(await visit(server.address))


async def test_come_in_talk_and_leave(server: ChatServer, visitor: Visitor, visit: Visit) -> None:
    """Two people hear each other, late comers read what was said, and leaving leads back to the way in."""
    await visitor.come_in("ada")
    await visitor.say("hello")
    other = Visitor(await visit(server.address))
    await other.come_in("grace")
    await expect(other.messages.last).to_have_text("hello")
    await other.say("hello\nto you")
    await expect(visitor.messages.last).to_have_text("hello\nto you")
    people = visitor.page.get_by_role("list", name="Here now").get_by_role("listitem")
    await expect(people).to_have_text(["ada", "grace"])
    await other.page.get_by_role("banner").get_by_role("button", name="Log out").click()
    await expect(other.name).to_be_focused()
    await expect(other.dialog).to_have_count(0)
    await expect(people).to_have_text(["ada"])
    assert await other.page.context.cookies() == []


async def test_coming_back_to_the_page_needs_no_log_in(visitor: Visitor) -> None:
    """A reload shows the chat again, with what was said."""
    await visitor.come_in("reload")
    await visitor.say("still here")
    await visitor.page.reload()
    await visitor.is_connected()
    await expect(visitor.messages.last).to_have_text("still here")


async def test_a_name_that_is_none_is_refused_with_a_reason(visitor: Visitor) -> None:
    """The server's sentence stands beside the field, and is read out."""
    await visitor.name.fill("\u200b")
    await visitor.button("Come in").click()
    await expect(visitor.page.get_by_role("alert")).to_have_text(
        "A name has 1 to 40 characters, all of which can be seen."
    )
    await expect(visitor.name).to_be_visible()


async def test_one_s_own_devices(server: ChatServer, visitor: Visitor, visit: Visit) -> None:
    """Each log-in with the name is in the list, which follows; one of them can be ended alone, and says why."""
    await visitor.come_in("devices")
    await expect(visitor.devices).to_have_count(1)
    await expect(visitor.others).to_be_disabled()
    phone = Visitor(
        await visit(server.address, user_agent="Mozilla/5.0 (Android 15; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0")
    )
    await phone.come_in("devices")
    await expect(visitor.devices).to_have_count(2)
    await expect(visitor.devices.nth(0)).to_contain_text("Chrome on Linux")
    await expect(visitor.devices.nth(0)).to_contain_text("this one")
    await expect(visitor.devices.nth(1)).to_contain_text("Firefox on Android")
    await visitor.devices.nth(1).get_by_role("button").click()
    await phone.is_told("Logged out elsewhere", "close code 4403")
    await expect(visitor.devices).to_have_count(1)
    await visitor.say("I am still here")


async def test_another_tab_hears_of_a_log_out(visitor: Visitor) -> None:
    """Two tabs share a session: logging out in one ends the socket of the other, which says so."""
    await visitor.come_in("tabs")
    tab = Visitor(await visitor.page.context.new_page())
    await tab.page.goto(visitor.page.url)
    await tab.is_connected()
    await visitor.page.get_by_role("banner").get_by_role("button", name="Log out").click()
    await tab.is_told("Logged out elsewhere", "close code 4403")
    await tab.page.keyboard.press("Escape")
    await expect(tab.name).to_be_focused()


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_people_write_is_text(server: ChatServer, visitor: Visitor, visit: Visit, payload: str) -> None:
    """Markup in a name or in a message is shown letter by letter, and nothing of it runs."""
    # A direction mark cannot be seen, so no name has one; what names are refused for is tested above.
    name = payload[:40] if payload.isprintable() else "bidirectional"
    await visitor.come_in(name)
    await visitor.say(payload)
    witness = Visitor(await visit(server.address))
    await witness.come_in("witness")
    await expect(witness.messages.last).to_have_text(payload)
    await expect(witness.page.get_by_role("list", name="Here now")).to_contain_text(name)
    for each in (visitor, witness):
        assert await each.page.evaluate("window.hacked") is None
        markup = each.page.locator("#messages, #people, .user").locator("script, img, svg, iframe, style, b, a")
        await expect(markup).to_have_count(0)


async def test_the_policy_lets_no_script_in(server: ChatServer, visitor: Visitor) -> None:
    """Even markup that got into the page would run nothing: no inline script, no other host, no frame around it."""
    answer = await visitor.page.goto(server.address)
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    outcome = await visitor.page.evaluate(
        """() => {
            try { document.body.innerHTML += "<img src=x onerror='window.hacked = true'>"; return "taken"; }
            catch (error) { return error.name; }
        }"""
    )
    assert outcome == "TypeError"


async def test_it_asks_this_server_and_nobody_else(server: ChatServer, visitor: Visitor) -> None:
    """Every byte of the page comes from here, and no address carries a token."""
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.page.on("websocket", lambda socket: asked.append(socket.url))
    await visitor.page.reload()
    await visitor.come_in("requests")
    assert asked
    assert {url.partition("://")[2].partition("/")[0] for url in asked} == {f"127.0.0.1:{server.port}"}
    assert not any("hfs_" in url or "hft_" in url for url in asked)


async def test_everything_can_be_done_with_the_keyboard(visitor: Visitor) -> None:
    """Come in, write two lines, send, reach every button in the order of the page, and leave."""
    press, type_ = visitor.page.keyboard.press, visitor.page.keyboard.type
    await expect(visitor.name).to_be_focused()
    await type_("keys")
    await press("Enter")
    await visitor.is_connected()
    await expect(visitor.text).to_be_focused()
    await type_("one")
    await press("Shift+Enter")
    await type_("two")
    await press("Enter")
    await expect(visitor.messages.last).to_have_text("one\ntwo")
    await expect(visitor.text).to_be_focused()
    reached = []
    while "Message" not in reached:
        await press("Tab")
        at = await visitor.page.evaluate(
            """() => {
                const at = document.activeElement;
                return at === document.body ? "" : (at.ariaLabel ?? (at.labels?.[0] ?? at).textContent.trim());
            }"""
        )
        reached.append(at)
    # From the field to the end of the page, and from its beginning back to the field.
    assert [each for each in reached if each] == [
        "Send",
        "Log out Chrome on Linux, this one",
        "/docs",
        "Skip to the message field",
        "Log out",
        "Messages",
        "Message",
    ]
    await visitor.page.locator("#log-out").focus()
    await press("Space")
    await expect(visitor.name).to_be_focused()


async def test_what_a_screen_reader_finds(visitor: Visitor) -> None:
    """Landmarks, headings and names; new messages and changes of state are announced, politely."""
    await visitor.come_in("reader")
    await visitor.say("read this")
    await expect(visitor.page.locator("body")).to_match_aria_snapshot(
        """
        - link "Skip to the message field"
        - banner:
          - heading "Holdfast chat" [level=1]
          - status: Connected
          - text: reader
          - button "Log out"
        - main "The room":
          - heading "The room" [level=2]
          - list "Here now":
            - listitem: reader
          - log "Messages"
          - text: Message
          - textbox "Message"
          - button "Send"
        - complementary "Your session and your devices":
          - region "This session":
            - heading "This session" [level=2]
            - timer
          - region "My devices":
            - heading "My devices" [level=2]
            - list:
              - listitem:
                - button "Log out Chrome on Linux, this one"
            - button "Log out the others" [disabled]
            - status
        - contentinfo
        """
    )
    live = visitor.page.get_by_role("log")
    await expect(live).to_have_attribute("aria-live", "polite")
    await expect(live.get_by_role("listitem").last).to_contain_text("reader")


# The contrast that WCAG 2.2 (1.4.3) asks of text: 4.5 to 1, computed as it says.
TOO_FAINT = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const paint = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const luminance = (rgb) => rgb
        .map((each) => each / 255)
        .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
        .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const gone = !element.checkVisibility() || element.closest(".unseen, :disabled, script, noscript, template");
        if (!walker.currentNode.data.trim() || gone) continue;
        const under = [];
        for (let each = element; each; each = each.parentElement) {
            under.unshift(getComputedStyle(each).backgroundColor);
        }
        const lights = [paint(under), paint([...under, getComputedStyle(element).color])].map(luminance).sort();
        const contrast = (lights[1] + 0.05) / (lights[0] + 0.05);
        if (contrast < 4.5) found.push([walker.currentNode.data.trim(), contrast]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
async def test_it_can_be_read(server: ChatServer, visit: Visit, scheme: str, width: int) -> None:
    """Enough contrast in both colour schemes, and no scrolling sideways on a phone, in every state of the page."""
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    visitor = Visitor(await visit(server.address, **options))
    await expect(visitor.name).to_be_visible()
    assert await visitor.page.evaluate(TOO_FAINT) == []
    await visitor.come_in(f"{scheme} {width}")
    await visitor.say("a word that is long: " + "long" * 60)
    other = Visitor(await visit(server.address, **options))
    await other.come_in(f"{scheme} {width}")
    await other.say("mine")
    await expect(visitor.devices).to_have_count(2)
    await visitor.page.evaluate("document.getElementById('banner').hidden = false")
    await visitor.page.evaluate("document.getElementById('expiring').hidden = false")
    assert await visitor.page.evaluate(TOO_FAINT) == []
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") == width
    await visitor.others.click()
    await other.is_told("Logged out elsewhere", "close code 4403")
    assert await other.dialog.evaluate(TOO_FAINT) == []


async def test_the_footer_says_that_plain_http_is_for_development(visitor: Visitor) -> None:
    """Over HTTP the cookie is the insecure one, and the page says which and why."""
    await visitor.come_in("footer")
    footer = visitor.page.get_by_role("contentinfo")
    await expect(footer).to_contain_text("session-insecure-dev")
    await expect(footer).to_contain_text("for development on this machine only")
    await expect(footer).to_contain_text("keeps the last 50 messages")
    (cookie,) = await visitor.page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("session-insecure-dev", True, "Lax")
    assert await visitor.page.evaluate("document.cookie") == ""


def test_the_log_has_the_credentials_and_no_token(server: ChatServer, tmp_path: Path) -> None:
    """What was made for this run is printed once; the tokens of the sessions are not in the log at all."""
    assert server.log.count("made for this run: HOLDFAST_APP_TOKEN=") == 1
    assert server.log.count("made for this run: HOLDFAST_ADMIN_TOKEN=") == 1
    assert "hfs_" not in server.log
