"""The JavaScript client in a browser: what each close makes it do, and what it says of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page
from websockets.asyncio.server import ServerConnection

from tests.browser.conftest import Visit
from tests.browser.rules import BACKOFFS, MEANINGS, TELLS_BACKOFFS, TELLS_MEANINGS
from tests.browser.scripted import ScriptedServer
from tests.support.polling import eventually
from tests.support.ports import LOOPBACK

# Short pauses, so that a test of many attempts takes no time; the client's own defaults are in the rules.
QUICK = {"base": 4, "cap": 16}
LONG = 3_600_000


class Client:
    """A page that runs the client, and what it has said so far."""

    def __init__(self, page: Page, server: ScriptedServer) -> None:
        """`page` shows the scripted server's page."""
        self.page = page
        self.server = server

    async def connect(self, options: dict[str, Any] | None = None, extra: str = "", url: str = "/ws") -> None:
        """Connect from the page; `extra` is JavaScript for options that no JSON can hold."""
        await self.page.evaluate(
            f"""async ([url, options]) => {{
                const client = await import("/holdfast/client.js");
                Object.assign(window, {{ changes: [], messages: [], warnings: [], fetched: 0 }});
                window.connection = client.connect(url, {{
                    onState: (change) => changes.push(change),
                    onMessage: (data) => messages.push(data),
                    onExpiring: (at) => warnings.push(at.toISOString()),
                    ...options,
                    {extra}
                }});
            }}""",
            [url, {**QUICK, **(options or {})}],
        )

    async def socket(self) -> ServerConnection:
        """The server's end of the next socket that opens."""
        async with asyncio.timeout(30):
            return await self.server.sockets.get()

    async def changes(self) -> list[dict[str, Any]]:
        """Everything that `onState` was told."""
        told: list[dict[str, Any]] = await self.page.evaluate("changes")
        return told

    async def let_pauses_pass(self) -> None:
        """Many times the longest pause, in the browser's own time: an attempt that was under way would show."""
        await self.page.evaluate(
            """async (pause) => {
                for (let each = 0; each < 10; each += 1) {
                    connection.retry();
                    await new Promise((resolve) => setTimeout(resolve, pause));
                }
            }""",
            QUICK["cap"],
        )

    async def reaches(self, state: str, reason: str = "") -> dict[str, Any]:
        """Wait until the last change is to this state, for this reason; gives the change."""
        handle = await self.page.wait_for_function(
            """([state, reason]) => {
                const last = changes.at(-1);
                return last?.state === state && last.reason === reason && connection.state === state && last;
            }""",
            arg=[state, reason],
        )
        change: dict[str, Any] = await handle.json_value()
        return change


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted server of this test's own."""
    async with ScriptedServer().running() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def client(server: ScriptedServer, visit: Visit) -> Client:
    """A page that can connect to it."""
    return Client(await visit(server.address), server)


@pytest.mark.parametrize(
    ("tells", "cases"), [(TELLS_BACKOFFS, BACKOFFS), (TELLS_MEANINGS, MEANINGS)], ids=["pauses", "codes"]
)
async def test_its_rules(client: Client, tells: str, cases: dict[str, object]) -> None:
    """Full jitter up to a doubling limit, and one meaning for each close code: the same as outside a browser."""
    told = await client.page.evaluate(
        f'async (cases) => ({tells})(await import("/holdfast/client.js"), cases)', [list(case) for case in cases]
    )
    assert told == list(cases.values())


async def test_pauses_are_spread(client: Client) -> None:
    """A thousand pauses of one attempt fill the whole range from nothing to the limit, without clusters (F-29)."""
    pauses = await client.page.evaluate(
        """async () => {
            const { backoff } = await import("/holdfast/client.js");
            return Array.from({ length: 1000 }, () => backoff(3));
        }"""
    )
    assert all(0 <= pause < 4000 for pause in pauses)
    tenths = [sum(tenth * 400 <= pause < (tenth + 1) * 400 for pause in pauses) for tenth in range(10)]
    # A hundred each on average; a fair draw leaves this range once in some million runs.
    assert all(50 < number < 160 for number in tenths), tenths


@pytest.mark.parametrize(
    ("code", "reason"), [(1001, "restart"), (1012, "restart"), (1011, "unavailable"), (1013, "unavailable")]
)
async def test_it_comes_back(client: Client, code: int, reason: str) -> None:
    """After a close that time can mend it says why, waits, and is open again."""
    await client.connect()
    first = await client.socket()
    await client.reaches("open")
    await first.close(code, "whatever")
    await client.socket()
    await client.reaches("open")
    told = await client.changes()
    assert [each["state"] for each in told] == ["open", "reconnecting", "open"]
    assert (told[1]["reason"], told[1]["code"]) == (reason, code)
    assert 0 <= told[1]["wait"] <= QUICK["base"]


async def test_it_comes_back_after_a_cut_line(client: Client) -> None:
    """A connection that ends without a close is `lost`, and opened again."""
    await client.connect()
    socket = await client.socket()
    await client.reaches("open")
    socket.transport.abort()
    await client.socket()
    await client.reaches("open")
    assert [(each["state"], each["reason"]) for each in await client.changes()] == [
        ("open", ""),
        ("reconnecting", "lost"),
        ("open", ""),
    ]


@pytest.mark.parametrize(
    ("code", "reason", "state", "said"),
    [
        (1000, "", "closed", ""),
        (1008, "too fast", "closed", "too fast"),
        (3000, "unauthenticated", "login-needed", "unauthenticated"),
        (3003, "forbidden", "closed", "forbidden"),
        (4401, "expired", "login-needed", "expired"),
        (4401, "idle", "login-needed", "idle"),
        (4403, "revoked", "revoked", ""),
        (4409, "evicted", "evicted", ""),
    ],
)
async def test_it_stays_away(client: Client, code: int, reason: str, state: str, said: str) -> None:
    """After a close that is final there is no other attempt, however often the page asks to try now."""
    await client.connect()
    socket = await client.socket()
    await client.reaches("open")
    await socket.close(code, reason)
    change = await client.reaches(state, said)
    assert change["code"] == code
    await client.let_pauses_pass()
    assert client.server.attempts.qsize() == 1
    assert await client.page.evaluate("connection.send('too late')") is False


async def test_pauses_grow_until_a_connection_has_lasted(client: Client) -> None:
    """Refused handshakes double the limit; a short connection does not set it back, one that stayed up does."""
    client.server.refusing = True
    await client.connect({"steadyAfter": LONG, "base": 1, "cap": 1_000_000})
    for _ in range(6):
        await client.server.attempts.get()
    client.server.refusing = False
    socket = await client.socket()
    await client.reaches("open")
    await socket.close(1012)
    # The pause after a short connection is drawn as if the handshake had been refused again. By then it may be long.
    last = await client.reaches("reconnecting", "restart")
    waits = [each["wait"] for each in await client.changes() if each["state"] == "reconnecting"]
    assert len(waits) >= 7
    assert all(wait <= 2**number for number, wait in enumerate(waits))
    assert last["wait"] == waits[-1]


async def test_a_connection_that_lasted_sets_the_pauses_back(client: Client) -> None:
    """Once it was open for the time that counts as steady, the next pause is drawn from the first limit again."""
    client.server.refusing = True
    await client.connect({"steadyAfter": 0, "base": 1})
    for _ in range(6):
        await client.server.attempts.get()
    client.server.refusing = False
    for _ in range(5):
        await (await client.socket()).close(1012)
    await client.socket()
    await client.reaches("open")
    restarts = [each["wait"] for each in await client.changes() if each["reason"] == "restart"]
    assert len(restarts) == 5
    assert all(wait <= 1 for wait in restarts)


async def test_retry_does_not_wait(client: Client) -> None:
    """A pause of any length ends when the page says so, with one attempt and not two."""
    await client.connect({"base": LONG, "cap": LONG})
    socket = await client.socket()
    await client.reaches("open")
    await socket.close(1013)
    await client.reaches("reconnecting", "unavailable")
    await client.page.evaluate("connection.retry(); connection.retry()")
    await client.socket()
    await client.reaches("open")
    assert client.server.attempts.qsize() == 2


async def test_a_handshake_that_hangs_is_given_up(client: Client) -> None:
    """A server that takes the connection and says nothing does not hold the client for ever."""
    taken: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.put_nowait(writer)

    silent = await asyncio.start_server(take, LOOPBACK, 0)
    port = silent.sockets[0].getsockname()[1]
    await client.connect({"openWithin": 50, "base": LONG, "cap": LONG}, url=f"ws://{LOOPBACK}:{port}/")
    change = await client.reaches("reconnecting", "lost")
    assert change["code"] == 1006
    (await taken.get()).close()
    silent.close()


async def test_messages_pass_and_frames_of_the_server_do_not(client: Client) -> None:
    """Text and bytes reach `onMessage` as they are; the expiry warning reaches `onExpiring` and nobody else."""
    await client.connect()
    socket = await client.socket()
    await client.reaches("open")
    at = "2026-11-24T05:04:11.991000Z"
    for frame in ("plain", '{"text": "of the application"}', json.dumps({"holdfast": "expiring", "expires_at": at})):
        # As the guard writes it: no space behind the colon.
        await socket.send(frame.replace('"holdfast": ', '"holdfast":'))
    await socket.send(b"\x00\xff")
    # The application's own, though it begins like one of the server's.
    await socket.send('{"holdfast": it begins like a frame')
    await socket.send('{"holdfast":it begins like a frame')
    await client.page.wait_for_function("() => messages.length === 5")
    assert await client.page.evaluate("messages.slice(3)") == [
        '{"holdfast": it begins like a frame',
        '{"holdfast":it begins like a frame',
    ]
    assert await client.page.evaluate(
        "[messages[0], messages[1], messages[2] instanceof ArrayBuffer, [...new Uint8Array(messages[2])]]"
    ) == ["plain", '{"text": "of the application"}', True, [0, 255]]
    assert await client.page.evaluate("warnings") == ["2026-11-24T05:04:11.991Z"]
    assert await client.page.evaluate("connection.send('back')") is True
    assert await socket.recv() == "back"


async def test_extend_answers_with_the_new_expiry(client: Client) -> None:
    """The frame goes out, the answer comes back as a date; a connection that goes away answers with nothing."""
    await client.connect({"base": LONG, "cap": LONG})
    socket = await client.socket()
    await client.reaches("open")
    await client.page.evaluate("window.extended = connection.extend(); null")
    assert json.loads(await socket.recv()) == {"holdfast": "extend"}
    await socket.send('{"holdfast":"extended","expires_at":"2026-11-24T05:04:11.991000Z"}')
    assert await client.page.evaluate("extended.then((at) => at.toISOString())") == "2026-11-24T05:04:11.991Z"
    await client.page.evaluate("window.extended = connection.extend(); null")
    await socket.close(1012)
    assert await client.page.evaluate("extended") is None
    assert await client.page.evaluate("connection.extend()") is None
    assert await client.page.evaluate("messages") == []


async def test_a_ticket_is_fetched_before_each_attempt(client: Client) -> None:
    """Each handshake carries a fresh one, and nothing else of the page's doing."""
    await client.connect(extra="ticket: async () => `ticket-${++fetched}`,")
    await (await client.socket()).close(1012)
    await client.socket()
    await client.reaches("open")
    assert [client.server.attempts.get_nowait() for _ in range(2)] == ["ticket-1", "ticket-2"]


async def test_no_ticket_without_a_log_in(client: Client) -> None:
    """`null` instead of a ticket says that one has to log in: no handshake is tried, and `restart` begins again."""
    await client.connect(extra="ticket: async () => (fetched++ ? 'ticket' : null),")
    await client.reaches("login-needed", "unauthenticated")
    assert client.server.attempts.empty()
    await client.page.evaluate("connection.restart()")
    await client.socket()
    await client.reaches("open")
    assert [each["state"] for each in await client.changes()] == ["login-needed", "connecting", "open"]


async def test_a_ticket_that_cannot_be_had_is_tried_for_again(client: Client) -> None:
    """An error, and an answer that takes too long, are a server that is away for now."""
    await client.connect(
        {"openWithin": 500},
        """ticket: async ({ signal }) => {
            fetched += 1;
            if (fetched === 1) throw new TypeError("no line");
            if (fetched === 2) await new Promise(() => {});
            return "third";
        },""",
    )
    await client.socket()
    await client.reaches("open")
    assert client.server.attempts.get_nowait() == "third"
    assert [each["reason"] for each in await client.changes()][:2] == ["unavailable", "unavailable"]


async def test_closing_an_open_one_is_for_good(client: Client) -> None:
    """The server hears 1000; the page hears `closed`, once."""
    await client.connect()
    socket = await client.socket()
    await client.reaches("open")
    await client.page.evaluate("connection.close(); connection.close()")
    await client.reaches("closed")
    await eventually(lambda: socket.close_code is not None, what="the server sees the close")
    assert socket.close_code == 1000
    assert [each["state"] for each in await client.changes()] == ["open", "closed"]


async def test_closing_while_it_waits_is_for_good(client: Client) -> None:
    """Neither a pause nor a ticket that arrives late leads to another attempt."""
    await client.connect(extra="ticket: () => new Promise((resolve) => { window.give = resolve; }),")
    await client.page.evaluate("connection.close(); give('late')")
    await client.reaches("closed")
    await client.connect()
    await (await client.socket()).close(1012)
    await client.page.evaluate("connection.close()")
    await client.let_pauses_pass()
    assert (await client.changes())[-1] == {"state": "closed", "reason": ""}
    assert client.server.attempts.qsize() <= 2


async def test_an_address_that_is_none_is_said_at_once(client: Client) -> None:
    """The caller's own mistake is an error where it was made, not a connection that never opens."""
    refused = await client.page.evaluate(
        """async () => {
            const { connect } = await import("/holdfast/client.js");
            return ["http://[", "ftp://example.test/"].map((url) => {
                try { connect(url); return "none"; } catch (error) { return error.name; }
            });
        }"""
    )
    assert refused == ["TypeError", "SyntaxError"]
