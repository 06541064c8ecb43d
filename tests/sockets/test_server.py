"""The ready-made server's sockets, seen by real clients of real processes."""

import json
import time
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest
from websockets.exceptions import InvalidStatus

from holdfast.server import run
from tests.api.api import APPLICATION, bearer
from tests.concurrency.place import Place
from tests.security.test_canary import holds
from tests.sockets.server import ORIGIN, Server, ending, running
from tests.support.polling import eventually
from tests.support.proxy import FaultProxy
from tests.support.stopwatch import Stopwatch


async def refused(server: Server, path: str = "/ws", **presented: str) -> int:
    """The status of a handshake that must be refused."""
    with pytest.raises(InvalidStatus) as caught:
        await server.connect(path, headers=presented).__aenter__()
    return caught.value.response.status_code


async def test_the_server_echoes_and_says_what_it_does(process_place: Place, tmp_path: Path) -> None:
    """`/ws` and `/ws/{id}` by header, cookie and ticket; counted in `/metrics`; `/readyz` names the channel."""
    address = process_place.address
    async with process_place.manager() as manager, running(tmp_path, "server", {"DATABASE_URL": address}) as server:
        new = await manager.create_session("u1")
        other = await manager.create_session("u1")
        cookie = {"Cookie": f"__Host-session={new.token}", "Origin": ORIGIN}
        ticket = await manager.create_ticket(new.token, ORIGIN)
        assert ticket is not None
        async with (
            server.connect(token=new.token) as by_header,
            server.connect(f"/ws/{new.id}", headers=cookie) as by_cookie,
            server.connect(f"/ws?ticket={ticket[0]}", headers={"Origin": ORIGIN}) as by_ticket,
        ):
            for client in (by_header, by_cookie, by_ticket):
                await client.send("hello")
                assert await client.recv() == "hello"
                await client.send(b"\x00\x01")
                assert await client.recv() == b"\x00\x01"
            scraped = (await server.get("/metrics")).text
            assert "holdfast_sockets_open 3.0" in scraped
            channel = (await server.get("/readyz")).json()["ends"]
            assert channel == ("push" if process_place.kind == "postgresql" else "polling")
            assert f"holdfast_ends_pushed {float(channel == 'push')}" in scraped
            assert await refused(server, f"/ws/{other.id}", **cookie) == 403
            assert await refused(server) == 401
            assert await refused(server, f"/ws?ticket={ticket[0]}", Origin=ORIGIN) == 401
            assert await manager.end_session(new.id)
            for client in (by_header, by_cookie, by_ticket):
                assert await ending(client) == (4403, "revoked", [])
        scraped = (await server.get("/metrics")).text
        assert 'holdfast_handshakes_refused_total{reason="unauthenticated"} 2.0' in scraped
        assert 'holdfast_handshakes_refused_total{reason="forbidden"} 1.0' in scraped
        assert 'holdfast_sockets_closed_total{code="4403"} 3.0' in scraped
        assert "holdfast_event_loop_lag_seconds_count" in scraped


async def test_an_end_on_another_server_closes_the_socket_in_time(process_place: Place, tmp_path: Path) -> None:
    """Promise 6, S-44: a session revoked through one process closes the socket in another within a second."""
    settings = {"DATABASE_URL": process_place.address}
    async with (
        process_place.manager() as manager,
        running(tmp_path, "one", settings) as one,
        running(tmp_path, "two", settings) as two,
    ):
        new = await manager.create_session("u1")
        async with (
            one.connect(token=new.token) as client,
            httpx2.AsyncClient(base_url=two.address, timeout=30) as asking,
        ):
            ended = await asking.delete("/api/v1/sessions/current", headers=bearer(new.token))
            assert ended.status_code == 204
            acknowledged = Stopwatch(one.process.pid, two.process.pid)
            assert await ending(client) == (4403, "revoked", [])
            assert acknowledged.seconds < 1.0


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_no_address_of_a_socket_is_in_the_log(process_place: Place, tmp_path: Path, level: str) -> None:
    """S-39, S-10: tokens and tickets in paths, queries, headers, cookies and messages; not one of them is written."""
    legacy = f"session-{uuid4()}"
    settings = {
        "DATABASE_URL": process_place.address,
        "HOLDFAST_ALLOW_TOKEN_IN_URL": "true",
        "HOLDFAST_LOG_LEVEL": level,
    }
    async with process_place.manager() as manager, running(tmp_path, "server", settings) as server:
        new = await manager.create_session("u1")
        kept = await manager.create_session("u1")
        tickets = [await manager.create_ticket(new.token, origin) for origin in (ORIGIN, None, "https://other.example")]
        shown = [new.token, kept.token, *(ticket[0] for ticket in tickets if ticket is not None)]
        assert await refused(server, f"/ws?token={new.token}") == 401
        assert await refused(server, f"/ws?x=1&ticket={quote(shown[4])}&access_token={kept.token}") == 401
        assert await refused(server, f"/ws/{legacy}") == 401
        assert await refused(server, f"/{new.token}?{kept.token}") == 403
        assert await refused(server, "/ws", Cookie=f"__Host-session={new.token}", Origin="https://evil.example") == 403
        for path, headers in (
            (f"/ws/{new.token}", {}),
            (f"/ws?ticket={shown[2]}", {"Origin": ORIGIN}),
            (f"/ws?ticket={shown[3]}&secret={kept.token}", {}),
            ("/ws", {"Authorization": f"Bearer {new.token}"}),
        ):
            async with server.connect(path, headers=headers) as client:
                await client.send(json.dumps({"password": f"hunter2 {kept.token}"}))
                await client.recv()
        server.signal()
        assert await server.ended() == 0
        written = server.log.read_bytes()
        assert holds(written, shown) == []
        for secret in (legacy, "hunter2", "ticket=", "access_token", "evil.example"):
            assert secret.encode() not in written
        # It says that there were handshakes, under the names of their routes.
        assert b"WEBSOCKET /ws/{session_id} 101" in written
        assert b"WEBSOCKET /ws 401" in written


async def test_a_denial_looks_like_every_other_answer(tmp_path: Path) -> None:
    """S-71: the same headers and the correlation id as an HTTP answer, and nothing that names the software."""
    async with running(tmp_path, "server", {"DATABASE_URL": f"sqlite:///{tmp_path / 's.db'}"}) as server:
        with pytest.raises(InvalidStatus) as caught:
            await server.connect(headers={"X-Correlation-ID": "mine-1"}).__aenter__()
        response = caught.value.response
        assert json.loads(response.body)["error"] == "unauthenticated"
        assert response.headers["X-Correlation-ID"] == "mine-1"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in response.headers
        assert "WEBSOCKET /ws 401" in server.written()


async def test_the_settings_reach_the_guard(tmp_path: Path) -> None:
    """S-47, S-48: size, rate and numbers of sockets are what the environment says."""
    settings = {
        "HOLDFAST_MAX_MESSAGE_BYTES": "10",
        "HOLDFAST_MESSAGES_PER_SECOND": "1",
        "HOLDFAST_SOCKETS_PER_SESSION": "2",
        "HOLDFAST_SOCKETS_PER_USER": "3",
        "HOLDFAST_MAX_SOCKETS": "4",
        "HOLDFAST_ALLOW_EXTEND": "true",
        "HOLDFAST_VALIDATE_EVERY_SECONDS": "60",
    }
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    settings["DATABASE_URL"] = place.address
    async with place.manager() as manager, running(tmp_path, "server", settings) as server:
        one, two, other = [await manager.create_session(user) for user in ("u1", "u1", "u2")]
        async with server.connect(token=one.token) as client:
            await client.send("x" * 11)
            assert await ending(client) == (1009, "too big", [])
        async with server.connect(token=one.token) as client:
            await client.send("x" * 1000)
            # Larger than twice the limit: the library beneath closes it, before the message is in memory.
            assert (await ending(client))[0] == 1009
        async with server.connect(token=one.token) as client:
            began = time.monotonic()
            for _ in range(100):
                await client.send("x")
            code, reason, passed = await ending(client)
            assert (code, reason) == (1008, "too fast")
            # A burst of five, and one for each second: of the ten after which it is enough, which begin anew after
            # one in which the server itself stood still.
            assert 13 <= len(passed) <= 6 + time.monotonic() - began
        held = [await server.connect(token=one.token).__aenter__() for _ in range(2)]
        assert await refused(server, **bearer(one.token)) == 429
        held.append(await server.connect(token=two.token).__aenter__())
        assert await refused(server, **bearer(two.token)) == 429
        held.append(await server.connect(token=other.token).__aenter__())
        assert await refused(server, **bearer(other.token)) == 503
        session = await manager.get_by_id(two.id)
        assert session is not None
        counted = session.request_count
        await held[2].send("x")
        await held[2].recv()
        session = await manager.get_by_id(two.id)
        assert session is not None
        assert session.request_count == counted
        for client in held:
            await client.close()


async def test_a_balancer_that_cuts_silent_connections_finds_none(tmp_path: Path) -> None:
    """F-36: nobody says anything, and still something passes more often than every half minute, which keeps it open."""
    assert run._PING_SECONDS < 30
    place = Place("sqlite", f"sqlite:///{tmp_path / 's.db'}")
    async with place.manager() as manager, running(tmp_path, "server", {"DATABASE_URL": place.address}) as server:
        new = await manager.create_session("u1")
        port = server.address.rpartition(":")[2]
        async with FaultProxy(f"tcp://127.0.0.1:{port}", protocol="raw") as balancer:
            server.address = f"http://127.0.0.1:{balancer.port}"
            # The client itself sends none: what passes is the server's own.
            async with server.connect(token=new.token, ping_interval=None) as client:
                quiet = balancer.counters.from_server
                await eventually(
                    lambda: balancer.counters.from_server > quiet,
                    what="the server says something",
                    deadline=run._PING_SECONDS + 10,
                )
                await client.send("still here")
                assert await client.recv() == "still here"


async def test_the_application_credential_opens_no_socket(tmp_path: Path) -> None:
    """S-36: only a session's own credential does; the application's and the operator's are for its back end."""
    async with running(tmp_path, "server", {"DATABASE_URL": f"sqlite:///{tmp_path / 's.db'}"}) as server:
        assert await refused(server, **bearer(APPLICATION)) == 401
