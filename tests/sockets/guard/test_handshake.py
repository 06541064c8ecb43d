"""Which handshakes open a guarded socket, seen by a real client: before anything is accepted."""

import asyncio
import json
from typing import Any

import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from holdfast.sessions.tokens import new_ticket, new_token
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.handshake import hide_secrets
from tests.sockets.guard.site import ALLOWED, COOKIE, ORIGIN, Site, ending, nothing_left, refusal, site

BROWSER = GuardOptions(origins=ALLOWED, browser_codes=True)
IN_URL = GuardOptions(origins=ALLOWED, allow_token_in_url=True)
OTHER_ORIGINS = [
    "null",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:443",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://example.com",
    "HTTPS://APP.EXAMPLE.COM",
    "https://app.example.com.",
    "https://app.example.com/",
    "",
]


async def opens(served: Site, **presented: Any) -> bool:
    """Whether a handshake opens a socket that works."""
    try:
        async with served.connect(**presented) as client:
            await client.send("hello")
            return str(await client.recv()).endswith(" hello")
    except InvalidStatus:
        return False


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
async def test_a_cookie_opens_no_socket_for_another_origins_page(origin: str) -> None:
    """S-37: the cookie goes along with any page's socket, so only pages of origins on the list may open one."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        response = await refusal(served.connect(cookie=new.token, headers={"Origin": origin}))
        assert response.status_code == 403
        # Nobody was asked about the session: the refusal tells nothing about it.
        assert served.store.calls["touch"] == 0
        assert served.counts.refused == ["forbidden"]


async def test_a_cookie_needs_exactly_one_origin_on_the_list() -> None:
    """S-37: none at all is refused with a cookie, and so are two, even if both are on the list."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        cookie = ("Cookie", f"{COOKIE.name}={new.token}")
        assert (await refusal(served.connect(headers=[cookie]))).status_code == 403
        twice = [cookie, ("Origin", ORIGIN), ("Origin", ORIGIN)]
        # The websockets library refuses it first, as no origin at all.
        assert (await refusal(served.connect(headers=twice))).status_code in {400, 403}
        assert await opens(served, headers=[cookie, ("Origin", ORIGIN)])


async def test_without_a_list_no_browser_opens_a_socket() -> None:
    """S-37: the default is to deny; the host that a request names is no reason to trust its page."""
    async with site(GuardOptions()) as served:
        new = await served.manager.create_session("u1")
        same = f"http://127.0.0.1:{served.port}"
        assert (await refusal(served.connect(cookie=new.token, headers={"Origin": same}))).status_code == 403
        # A program has no origin, and shows a token that no page could send along by accident.
        assert await opens(served, token=new.token)


async def test_a_header_needs_no_origin_but_obeys_one() -> None:
    """S-37: a program may leave the origin out; a page that has it must be on the list with any credential."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        assert await opens(served, token=new.token)
        assert await opens(served, token=new.token, origin=Origin(ORIGIN))
        answer = await refusal(served.connect(token=new.token, origin=Origin("https://evil.example")))
        assert answer.status_code == 403


async def test_a_handshake_without_a_good_credential_is_never_accepted() -> None:
    """S-38, S-07: one constant 401 before the upgrade, whatever is wrong with the credential."""
    async with site() as served:
        ended = await served.manager.create_session("u1")
        await served.manager.end_session(ended.id)
        bodies = set()
        for presented in (
            {},
            {"token": "garbage"},
            {"token": new_token()},
            {"token": ended.token},
            {"token": ended.id},
            {"cookie": ended.token},
            {"cookie": ended.id},
            {"path": f"/ws?ticket={new_ticket()}"},
            {"path": f"/ws?ticket={ended.token}"},
            {"path": "/ws?ticket="},
            {"path": "/ws?ticket=a&ticket=b"},
            {"headers": [("Cookie", f"{COOKIE.name}=a; {COOKIE.name}=b"), ("Origin", ORIGIN)]},
            {"headers": [("Authorization", "Basic dTpw")]},
        ):
            response = await refusal(served.connect(**presented))
            assert response.status_code == 401
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["WWW-Authenticate"] == "Bearer"
            bodies.add(bytes(response.body))
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["error"] == "unauthenticated"
        assert served.passed == []


async def test_a_browsers_page_can_read_why_it_was_refused() -> None:
    """S-38, S-50: in the browser-friendly mode the handshake is accepted, and closed at once with no data."""
    async with site(BROWSER) as served:
        one, two = await served.manager.create_session("u1"), await served.manager.create_session("u1")
        for presented, expected in (
            ({}, (3000, "unauthenticated", [])),
            ({"cookie": new_token()}, (3000, "unauthenticated", [])),
            ({"cookie": one.token, "headers": {"Origin": "https://evil.example"}}, (3003, "forbidden", [])),
            ({"cookie": one.token, "path": f"/ws/{two.id}"}, (3003, "forbidden", [])),
        ):
            async with served.connect(**presented) as client:
                assert await ending(client) == expected
        assert served.passed == []


async def test_the_path_names_the_sessions_own_id() -> None:
    """Another session's id is refused, also when both are the same user's."""
    async with site() as served:
        one, two = await served.manager.create_session("u1"), await served.manager.create_session("u1")
        assert await opens(served, token=one.token, path=f"/ws/{one.id}")
        assert await opens(served, cookie=one.token, path=f"/ws/{one.id.upper()}")
        for path in (f"/ws/{two.id}", "/ws/anything", f"/ws/{one.id}0"):
            assert (await refusal(served.connect(path, token=one.token))).status_code == 403


async def test_another_origins_page_learns_nothing_of_the_cookie() -> None:
    """S-37: with and without the visitor's cookie it reads the same, or it could tell who has been here."""
    async with site(BROWSER) as served:
        new = await served.manager.create_session("u1")
        evil = {"Origin": "https://evil.example"}
        for presented in ({}, {"cookie": new.token}, {"cookie": "garbage"}):
            async with served.connect(**presented, headers=evil) as client:
                assert await ending(client) == (3003, "forbidden", [])
        assert served.store.calls["touch"] == 0


async def test_exactly_one_credential_decides() -> None:
    """S-36: a bad credential is never made good by another one in a less deliberate place."""
    async with site(IN_URL) as served:
        new = await served.manager.create_session("u1")
        ticket = await served.manager.create_ticket(new.token, ORIGIN)
        assert ticket is not None
        good, bad = new.token, new_token()
        assert (await refusal(served.connect(token=bad, cookie=good))).status_code == 401
        assert (await refusal(served.connect(f"/ws?ticket={new_ticket()}", token=good, cookie=good))).status_code == 401
        assert (await refusal(served.connect(f"/ws/{bad}", token=good, cookie=good))).status_code == 401
        # And a good one is not spoilt by what stands behind it.
        assert await opens(served, path=f"/ws?ticket={ticket[0]}", token=bad, cookie=bad)


async def test_a_token_in_the_query_is_not_seen() -> None:
    """S-36, S-39: whatever the parameter is called, a token in the query opens nothing."""
    for options in (None, IN_URL):
        async with site(options) as served:
            new = await served.manager.create_session("u1")
            for name in ("token", "access_token", "session", "session_id", "ticket", COOKIE.name):
                assert (await refusal(served.connect(f"/ws?{name}={new.token}"))).status_code == 401


async def test_a_token_in_the_path_only_where_it_is_allowed() -> None:
    """S-39: legacy clients have it there; by default it opens nothing, not even beside a good credential."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        assert (await refusal(served.connect(f"/ws/{new.token}"))).status_code == 401
        assert (await refusal(served.connect(f"/ws/{new.token}", token=new.token))).status_code == 403
    async with site(IN_URL) as served:
        new = await served.manager.create_session("u1")
        assert await opens(served, path=f"/ws/{new.token}")
        assert await opens(served, path=f"/ws/{new.token}", origin=Origin(ORIGIN))
        elsewhere = Origin("https://evil.example")
        assert (await refusal(served.connect(f"/ws/{new.token}", origin=elsewhere))).status_code == 403
        # An id there is still no credential.
        assert (await refusal(served.connect(f"/ws/{new.id}"))).status_code == 401


async def test_of_two_handshakes_with_one_ticket_one_wins() -> None:
    """S-40: a ticket is used once, also when both come at the same moment."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        for _ in range(20):
            made = await served.manager.create_ticket(new.token, ORIGIN)
            assert made is not None
            path = f"/ws?ticket={made[0]}"
            both = await asyncio.gather(*(opens(served, path=path, origin=Origin(ORIGIN)) for _ in range(2)))
            assert sorted(both) == [False, True]


async def test_a_ticket_is_bound_and_short_lived() -> None:
    """S-40: thirty seconds, one session, one origin."""
    async with site(GuardOptions(origins=type(ALLOWED)([ORIGIN, "https://other.example.com"]))) as served:
        new = await served.manager.create_session("u1")

        async def ticket(origin: str | None) -> str:
            made = await served.manager.create_ticket(new.token, origin)
            assert made is not None
            return f"/ws?ticket={made[0]}"

        other = Origin("https://other.example.com")
        assert (await refusal(served.connect(await ticket(ORIGIN), origin=other))).status_code == 401
        assert (await refusal(served.connect(await ticket(ORIGIN)))).status_code == 401
        assert (await refusal(served.connect(await ticket(None), origin=other))).status_code == 401
        assert await opens(served, path=await ticket(None))
        late = await ticket(ORIGIN)
        served.clock.advance(31)
        assert (await refusal(served.connect(late, origin=Origin(ORIGIN)))).status_code == 401
        # A ticket opens the socket of its own session, whatever the path says.
        stranger = await served.manager.create_session("u2")
        path = (await ticket(None)).replace("/ws?", f"/ws/{stranger.id}?")
        assert (await refusal(served.connect(path))).status_code == 403


async def test_a_subprotocol_that_holds_a_token_is_never_echoed() -> None:
    """S-41: only a plain one is accepted, whatever the application says; the application does not see the other."""
    token = new_token()
    offered = [Subprotocol(f"base64url.bearer.{token}"), Subprotocol("chat")]
    seen: list[list[str]] = []

    async def careless(websocket: WebSocket) -> None:
        seen.append(websocket.scope["subprotocols"])
        await websocket.accept(offered[0], headers=[(b"Sec-WebSocket-Protocol", offered[0].encode())])

    async with site(prepare=lambda made: made.handle("/careless", careless)) as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token, subprotocols=offered) as client:
            assert client.subprotocol == "chat"
        async with served.connect("/careless", token=new.token, subprotocols=offered) as client:
            assert client.subprotocol is None
            assert client.response is not None
            assert token not in str(client.response.headers)
        assert seen == [["chat"]]
    async with site(BROWSER) as served, served.connect(subprotocols=offered) as client:
        assert client.subprotocol == "chat"
        assert await ending(client) == (3000, "unauthenticated", [])


async def test_nothing_is_compressed_by_default() -> None:
    """S-49: a client that offers compression gets none, so that no small frame unfolds into a big message."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token, compression="deflate") as client:
            assert client.response is not None
            assert "Sec-WebSocket-Extensions" not in client.response.headers


async def test_a_handshake_while_the_store_is_away_is_told_to_come_back() -> None:
    """S-72: unavailable is never valid, and never logged out; the client may try again."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        served.store.fail("touch")
        response = await refusal(served.connect(token=new.token))
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert json.loads(response.body)["error"] == "unavailable"
        assert served.counts.refused == ["unavailable"]
    async with site(BROWSER) as served:
        new = await served.manager.create_session("u1")
        served.store.fail("touch")
        async with served.connect(token=new.token) as client:
            assert await ending(client) == (1013, "unavailable", [])


async def test_a_handshake_of_unknown_outcome_asks_again() -> None:
    """After `OutcomeUnknown` the session is asked for once, without counting twice."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        served.store.lose("touch")
        async with served.connect(token=new.token):
            session = await served.manager.get_by_id(new.id)
            assert session is not None
            assert session.request_count == 1


async def test_a_client_that_leaves_during_its_handshake_leaves_nothing_behind() -> None:
    """F-32: gone while the store is asked: no place is kept and nothing is attached."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        fault = served.store.stall("touch")
        opening = asyncio.ensure_future(served.connect(token=new.token).__aenter__())
        await fault.arrived.wait()
        opening.cancel()
        await asyncio.wait((opening,))
        fault.release()
        await nothing_left(served)


async def test_an_endpoint_without_the_dependency_is_not_guarded() -> None:
    """The guard is asked for by the route: what is public stays as it is."""

    async def public(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello, whoever you are")

    def prepare(made: Site) -> None:
        made.app.add_api_websocket_route("/public", public)

    async with site(prepare=prepare) as served, connect(f"ws://127.0.0.1:{served.port}/public", proxy=None) as client:
        assert await client.recv() == "hello, whoever you are"
        assert served.guard.open_sockets == 0


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_percent_encoded_secret_does_not_stay_in_the_scope(allowed: bool) -> None:
    """S-39: whoever logs an address later finds no token in it, in whatever spelling; the rest stays as it was."""
    token, legacy = new_token(), "session 0815/é"
    encoded = "".join(f"%{byte:02X}" for byte in token.encode())
    options = GuardOptions(allow_token_in_url=allowed)
    for spelling in (token, f"%68{token[1:]}", encoded):
        scope: dict[str, Any] = {
            "path": f"/ws/{token}",
            "raw_path": f"/w%73/{spelling}".encode(),
            "query_string": f"a=%20b&x={spelling}&{spelling}=y&%74icket=z&c=d+e".encode(),
        }
        hide_secrets(scope, options)
        assert scope["path"] == "/ws/hidden"
        assert scope["raw_path"] == b"/w%73/hidden"
        assert scope["query_string"] == b"a=%20b&x=hidden&hidden=y&c=d+e"
    scope = {
        "path": f"/ws/{legacy}",
        "raw_path": b"/ws/session%200815%2F%C3%A9",
        "query_string": b"",
        "path_params": {"session_id": legacy},
    }
    hide_secrets(scope, options)
    assert (scope["path"], scope["raw_path"]) == (
        ("/ws/hidden", b"/ws/hidden") if allowed else (f"/ws/{legacy}", b"/ws/session%200815%2F%C3%A9")
    )
