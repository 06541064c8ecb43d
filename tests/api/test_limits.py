"""What a client may cost."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from holdfast.web.limits import client_address
from tests.api.api import APPLICATION, BASE, Api, running

JSON = {"Content-Type": "application/json"}


async def test_anonymous_sessions_are_off_by_default(api: Api) -> None:
    """S-24: without the setting nobody creates a session without a credential."""
    assert (await api.ask("POST", "sessions", json={})).status_code == 401
    assert api.store.calls["create"] == 0


async def test_anonymous_sessions_have_no_user() -> None:
    """S-24: anyone may begin a session with metadata; one with a user needs the application."""
    async with running(allow_anonymous=True) as api:
        created = await api.ask("POST", "sessions", json={"metadata": {"lang": "ko"}})
        assert created.status_code == 201
        shown = await api.show(created.json()["id"])
        assert shown is not None
        assert (shown["user_id"], shown["metadata"]) == (None, {"lang": "ko"})
        assert (await api.ask("POST", "sessions", json={"user_id": "u1"})).status_code == 401


async def test_a_wrong_credential_does_not_fall_back_to_anonymous() -> None:
    """S-24: whoever presents a credential is judged by it."""
    async with running(allow_anonymous=True) as api:
        for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"Authorization": ""}):
            assert (await api.ask("POST", "sessions", json={}, headers=headers)).status_code == 401


async def test_one_client_is_limited_and_others_are_not() -> None:
    """S-24: a flood of creates from one address gets 429 with Retry-After; the application goes on."""
    async with running(allow_anonymous=True, anonymous_per_minute=5) as api:
        statuses = [(await api.ask("POST", "sessions", json={})).status_code for _ in range(20)]
        assert statuses == [201] * 5 + [429] * 15
        refused = await api.ask("POST", "sessions", json={})
        assert refused.headers["retry-after"] == "60"
        assert refused.json()["error"] == "too_many_requests"
        assert api.store.calls["create"] == 5
        assert (await api.ask("POST", "sessions", APPLICATION, json={})).status_code == 201


async def test_the_cap_per_user_is_a_conflict() -> None:
    """S-23: at the cap the application gets 409 and nothing is created; other users are not held up."""
    async with running(max_sessions_per_user=2) as api:
        made = [await api.create("u1") for _ in range(2)]
        refused = await api.ask("POST", "sessions", APPLICATION, json={"user_id": "u1"})
        assert (refused.status_code, refused.json()["error"]) == (409, "too_many_sessions")
        await api.create("u2")
        assert (await api.ask("DELETE", "sessions/current", made[0]["token"])).status_code == 204
        await api.create("u1")


async def test_the_cap_per_user_can_evict() -> None:
    """S-23: by setting, the oldest session makes room."""
    async with running(max_sessions_per_user=1, at_cap="evict") as api:
        old = await api.create("u1")
        new = await api.create("u1")
        assert await api.show(old["id"]) is None
        assert await api.show(new["id"]) is not None


async def test_all_clients_together_are_limited() -> None:
    """S-24: the ceiling holds over any number of addresses, and the refused take nothing from it."""
    trusted = (ip_network("192.0.2.1/32"),)
    async with running(
        allow_anonymous=True, anonymous_per_minute=2, anonymous_total_per_minute=5, trusted_proxies=trusted
    ) as api:
        statuses = []
        for client in range(20):
            headers = {"X-Forwarded-For": f"198.51.100.{client // 4}"}
            statuses.append((await api.ask("POST", "sessions", json={}, headers=headers)).status_code)
        assert statuses[:12] == [201, 201, 429, 429, 201, 201, 429, 429, 201, 429, 429, 429]
        assert statuses.count(201) == 5


async def test_a_spoofed_address_has_no_effect() -> None:
    """S-61: X-Forwarded-For from a peer that is no trusted proxy changes nothing."""
    async with running(allow_anonymous=True, anonymous_per_minute=1) as api:
        for client in range(3):
            response = await api.ask("POST", "sessions", json={}, headers={"X-Forwarded-For": f"203.0.113.{client}"})
            assert response.status_code == (201 if client == 0 else 429)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("2001:db8::1", "", "2001:db8::/64"),
        ("2001:db8::ffff:1", "", "2001:db8::/64"),
        (None, "198.51.100.1", "unknown"),
    ],
)
def test_the_client_is_the_last_address_nobody_trusts(peer: str | None, forwarded: str, expected: str) -> None:
    """S-61: forwarded addresses are read from the right, for as long as trusted proxies wrote them."""
    scope = {
        "type": "http",
        "client": None if peer is None else (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())] if forwarded else [],
    }
    assert client_address(scope, [ip_network("10.0.0.0/8")]) == expected


async def endless(taken: list[int]) -> AsyncIterator[bytes]:
    """A body without a length; it notes how much of it was taken."""
    for _ in range(100_000):
        taken.append(1024)
        yield b"x" * 1024


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x/y"]
)
async def test_a_large_body_is_refused_early(api: Api, content_type: str) -> None:
    """S-63: 100 MB of any content type, declared or chunked, is a 413 after at most one body's worth of reading."""
    for path in ("sessions", "sessions/validate", "sessions/cleanup"):
        taken: list[int] = []
        headers = {"Content-Type": content_type}
        chunked = await api.ask("POST", path, APPLICATION, content=endless(taken), headers=headers)
        declared = await api.ask(
            "POST", path, APPLICATION, content=b"{}", headers={**headers, "Content-Length": "104857600"}
        )
        for response in (chunked, declared):
            assert (response.status_code, response.json()["error"]) == (413, "too_large")
            assert response.headers["x-content-type-options"] == "nosniff"
    assert api.store.calls["create"] == 0


async def test_a_declared_length_is_refused_unread(api: Api) -> None:
    """S-63: a length beyond the limit is refused before the first byte of the body is asked for."""
    messages = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        messages.append(message)

    for length in (b"65537", b"1" * 5000, b"-1", b"x"):
        messages.clear()
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/sessions",
            "headers": [(b"content-length", length)],
            "query_string": b"",
            "app": None,
        }
        await api.app(scope, receive, send)  # type: ignore[arg-type]  # dicts serve as messages
        assert messages[0]["status"] == (413 if length.isdigit() else 400)


async def test_the_largest_body_is_taken(api: Api) -> None:
    """S-63: a body of exactly the limit is read."""
    body = b'{"metadata": {}' + b" " * (65_536 - 16) + b"}"
    assert len(body) == 65_536
    response = await api.client.post(
        BASE + "sessions", content=body, headers={**JSON, "Authorization": f"Bearer {APPLICATION}"}
    )
    assert response.status_code == 201
