"""What opens a session, and what never does."""

import base64
from hashlib import sha256

import pytest

from tests.api.api import APPLICATION, BASE, OPERATOR, Api, bearer, running

MALFORMED = [
    "",
    " ",
    "hfs_",
    "x" * 1_048_576,
    "a%20b",
    "%00",
    "hfs_" + "é" * 43,
    "null",
    "true",
    "hft_" + "a" * 51,
]


def flipped(token: str) -> str:
    """The token with one character of its body changed, and so with a wrong checksum."""
    return token[:10] + ("a" if token[10] != "a" else "b") + token[11:]


async def test_neither_id_nor_digest_opens_anything(api: Api) -> None:
    """S-03: the public id and the stored digest, in every spelling, are refused as bearer and in a body."""
    created = await api.create()
    digest = sha256(created["token"].encode())
    spellings = [created["id"], digest.hexdigest(), base64.b64encode(digest.digest()).decode()]
    for text in spellings:
        assert (await api.ask("GET", "sessions/current", text)).status_code == 401
        validated = await api.ask("POST", "sessions/validate", APPLICATION, json={"token": text})
        assert validated.json() == {"active": False, "session": None}
        assert await api.manager.redeem_ticket(text) is None


async def test_a_token_travels_only_where_it_is_read(api: Api) -> None:
    """S-03, S-36: a good token in a query, in a cookie or under another scheme opens nothing."""
    token = (await api.create())["token"]
    for headers in ({"Cookie": f"token={token}"}, {"Authorization": f"Basic {token}"}, {"Authorization": token}):
        assert (await api.ask("GET", "sessions/current", headers=headers)).status_code == 401
    assert (await api.ask("GET", f"sessions/current?token={token}")).status_code in (401, 422)
    two = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert (await api.client.get(BASE + "sessions/current", headers=two)).status_code == 401


async def test_an_unknown_token_creates_nothing_and_is_not_echoed(api: Api) -> None:
    """S-04: well-formed tokens nobody issued leave no row, get no cookie and are not repeated."""
    from holdfast.sessions.tokens import new_token

    for _ in range(100):
        token = new_token()
        shown = await api.ask("GET", "sessions/current", token)
        validated = await api.ask("POST", "sessions/validate", APPLICATION, json={"token": token})
        for response in (shown, validated):
            assert token not in response.text + str(response.headers)
            assert "set-cookie" not in response.headers
    assert await api.manager.get_active_session_count() == 0
    assert api.store.calls["create"] == 0


@pytest.mark.parametrize("token", MALFORMED, ids=lambda token: repr(token[:12]))
async def test_a_malformed_token_reaches_no_store(api: Api, token: str) -> None:
    """S-05: what cannot be a token is refused without asking the store."""
    before = api.store.calls.total() - api.store.calls["ping"]
    headers = [(b"Authorization", b"Bearer " + token.encode())]
    response = await api.client.get(BASE + "sessions/current", headers=headers)
    assert response.status_code == 401
    if len(token) < 1000:
        validated = await api.ask("POST", "sessions/validate", APPLICATION, json={"token": token})
        assert validated.json() == {"active": False, "session": None}
    assert api.store.calls.total() - api.store.calls["ping"] == before


async def test_control_characters_in_a_token_reach_no_store(api: Api) -> None:
    """S-05: NUL, line breaks and lone surrogates in the body's token are refused without asking the store."""
    token = (await api.create())["token"]
    for text in (rb"\u0000", rb"\r\n", rb"\ud800", token.encode() + rb"\n"):
        response = await api.raw("POST", "sessions/validate", b'{"token": "' + text + b'"}')
        assert response.status_code in (200, 422)
        assert response.json().get("active") is not True
    assert api.store.calls["touch"] == 0


async def test_a_typo_reaches_no_store(api: Api) -> None:
    """S-06: one wrong character fails the checksum, and no query is made."""
    token = (await api.create())["token"]
    assert (await api.ask("GET", "sessions/current", flipped(token))).status_code == 401
    await api.ask("POST", "sessions/validate", APPLICATION, json={"token": flipped(token)})
    assert (api.store.calls["get"], api.store.calls["touch"]) == (0, 0)


async def test_all_refusals_look_the_same(api: Api) -> None:
    """S-07: unknown, malformed, expired, revoked and rotated tokens get the same bytes and headers."""
    from holdfast.sessions.tokens import new_token

    expired = (await api.create())["token"]
    api.clock.advance(25 * 3600)
    revoked, rotated = (await api.create())["token"], (await api.create())["token"]
    await api.manager.delete_session(revoked)
    await api.manager.rotate_session(rotated)
    paths = ("sessions/current", "sessions/current/devices", "stats")
    shown: dict[str, set[tuple[bytes, tuple[tuple[str, str], ...]]]] = {path: set() for path in paths}
    validated = set()
    for token in (expired, revoked, rotated, new_token(), "nonsense", APPLICATION):
        for path in paths:
            credential = token if path != "stats" else token + "x"
            response = await api.ask("GET", path, credential, headers={"X-Correlation-ID": "same"})
            assert response.status_code == 401
            shown[path].add((response.content, tuple(sorted(response.headers.items()))))
        response = await api.ask(
            "POST", "sessions/validate", APPLICATION, json={"token": token}, headers={"X-Correlation-ID": "same"}
        )
        validated.add((response.content, tuple(sorted(response.headers.items()))))
    assert [len(answers) for answers in shown.values()] == [1, 1, 1]
    assert len(validated) == 1
    (body, headers), *others = (next(iter(answers)) for answers in shown.values())
    assert dict(headers)["www-authenticate"] == "Bearer"
    assert all(other == body for other, _ in others)


@pytest.mark.parametrize("value", ["1", "1.5", "[]", "{}", "true", "null", '["hfs_"]'])
async def test_wrong_types_for_a_token_are_refused(api: Api, value: str) -> None:
    """S-08: a number, list, object, boolean or null in place of a token is a 422."""
    response = await api.raw("POST", "sessions/validate", f'{{"token": {value}}}'.encode())
    assert (response.status_code, response.json()["error"]) == (422, "invalid")


async def test_only_create_and_rotate_show_a_token() -> None:
    """S-12: no other answer holds the token, and a list of sessions holds none at all."""
    async with running(allow_extend=True, allow_metadata=True) as api:
        created = await api.create(note="x")
        token, path = created["token"], f"sessions/{created['id']}"
        responses = [
            await api.ask("GET", "sessions/current", token),
            await api.ask("GET", "sessions/current/devices", token),
            await api.ask("POST", "sessions/current/ticket", token),
            await api.ask("POST", "sessions/current/extend", token),
            await api.ask("PATCH", "sessions/current/metadata", token, json={"changes": {}}),
            await api.ask("POST", "sessions/validate", APPLICATION, json={"token": token}),
            await api.ask("POST", "sessions/validate", APPLICATION, json={"token": token, token: 1}),
            await api.ask("PATCH", f"{path}/metadata", APPLICATION, json={"changes": {}}),
            await api.ask("GET", "sessions", OPERATOR),
            await api.ask("GET", path, OPERATOR),
            await api.ask("GET", "stats", OPERATOR),
            await api.ask("GET", f"sessions/{token}", OPERATOR),
            await api.ask("GET", f"http://holdfast.test/{token}"),
            await api.ask("GET", "http://holdfast.test/metrics"),
            await api.ask("GET", "sessions/current", token, headers={"X-Correlation-ID": token}),
        ]
        for response in responses:
            assert token not in response.text + str(response.headers), response.request.url
            assert "hfs_" not in response.text


async def test_two_credentials_are_accepted_during_a_change() -> None:
    """S-07: while a credential is changed both open, and any other is refused."""
    old, new = "old-credential-of-the-application", "new-credential-of-the-application"
    async with running(application_credentials=(old, new)) as api:
        for credential, status in ((old, 201), (new, 201), (old + new, 401), (old[:-1], 401)):
            response = await api.client.post("sessions", json={}, headers=bearer(credential))
            assert response.status_code == status
