"""Who may do what: the matrix of those who ask over all routes."""

import pytest

from tests.api.api import APPLICATION, OPERATOR, Api, running

OWN = [
    ("GET", "sessions/current", None),
    ("DELETE", "sessions/current", None),
    ("POST", "sessions/current/rotate", None),
    ("POST", "sessions/current/ticket", {}),
    ("GET", "sessions/current/devices", None),
    ("DELETE", "sessions/current/devices/{id}", None),
    ("POST", "sessions/current/extend", {"hours": 90}),
    ("PATCH", "sessions/current/metadata", {"changes": {"taken": True}}),
]
APPLICATIONS = [
    ("POST", "sessions", {}),
    ("POST", "sessions/validate", {"token": "x"}),
    ("PATCH", "sessions/{id}/metadata", {"changes": {"taken": True}}),
    ("POST", "sessions/{id}/extend", {"hours": 90}),
    ("DELETE", "users/u1/sessions", None),
]
OPERATORS = [
    ("GET", "sessions", None),
    ("GET", "sessions/{id}", None),
    ("DELETE", "sessions/{id}", None),
    ("POST", "sessions/cleanup", None),
    ("GET", "stats", None),
    ("DELETE", "users/u1", None),
]


async def test_another_users_session_is_not_found_and_unchanged(api: Api) -> None:
    """S-25: with a session of one user, every way to name another user's session answers 404 and changes nothing."""
    mine, other, nobody = await api.create("u1"), await api.create("u2", secret=1), await api.create(None)
    for target in (other, nobody):
        before = await api.show(target["id"])
        response = await api.ask("DELETE", f"sessions/current/devices/{target['id']}", mine["token"])
        assert response.status_code == 404
        assert response.json() == {"error": "not_found", "message": "there is nothing here"}
        assert await api.show(target["id"]) == before
    listed = await api.ask("GET", "sessions/current/devices", mine["token"])
    assert [device["id"] for device in listed.json()["sessions"]] == [mine["id"]]
    page = await api.ask("GET", f"sessions/current/devices?after={mine['id']}", mine["token"])
    assert page.json()["sessions"] == []


async def test_similar_user_ids_are_different_users(api: Api) -> None:
    """S-25, S-54: case, Unicode form, prefixes and blanks tell users apart."""
    names = ["é", "e\u0301", "É", "é ", "éa"]
    created = {name: await api.create(name) for name in names}
    for name in names:
        devices = (await api.ask("GET", "sessions/current/devices", created[name]["token"])).json()["sessions"]
        assert [(device["id"], device["user_id"]) for device in devices] == [(created[name]["id"], name)]


@pytest.mark.parametrize(("method", "path", "body"), OWN)
async def test_own_routes_take_a_sessions_token_only(
    api: Api, method: str, path: str, body: dict[str, object] | None
) -> None:
    """S-25: the routes of a session's own token refuse everybody else with the one 401."""
    target = await api.create()
    before = await api.show(target["id"])
    for credential in (None, APPLICATION, OPERATOR, target["id"]):
        response = await api.ask(method, path.format(id=target["id"]), credential, json=body)
        assert response.status_code == 401
    assert await api.show(target["id"]) == before


@pytest.mark.parametrize(("method", "path", "body"), [*APPLICATIONS, *OPERATORS])
async def test_a_session_token_opens_no_one_elses_routes(
    api: Api, method: str, path: str, body: dict[str, object] | None
) -> None:
    """S-25: neither nobody nor a session's token gets at the application's and the operator's routes."""
    target = await api.create()
    before = await api.show(target["id"])
    for credential in (None, target["token"], target["id"]):
        response = await api.ask(method, path.format(id=target["id"]), credential, json=body)
        assert response.status_code == 401
    assert await api.show(target["id"]) == before
    assert await api.manager.get_active_session_count() == 1


@pytest.mark.parametrize(("method", "path", "body"), OPERATORS)
async def test_the_application_is_no_operator(api: Api, method: str, path: str, body: dict[str, object] | None) -> None:
    """S-25: the application's credential gets a 403 from the operator's routes, and changes nothing."""
    target = await api.create()
    before = await api.show(target["id"])
    response = await api.ask(method, path.format(id=target["id"]), APPLICATION, json=body)
    assert (response.status_code, response.json()["error"]) == (403, "forbidden")
    assert await api.show(target["id"]) == before


@pytest.mark.parametrize(("method", "path", "body"), [*APPLICATIONS, *OPERATORS])
async def test_without_credentials_the_routes_open_to_nobody(
    method: str, path: str, body: dict[str, object] | None
) -> None:
    """S-66: a server without credentials refuses every one of their routes, to the empty credential too."""
    async with running(application_credentials=(), operator_credentials=()) as api:
        new = await api.manager.create_session("u1")
        for credential in (None, "", " ", "None", APPLICATION, OPERATOR):
            response = await api.ask(method, path.format(id=new.id), credential, json=body)
            assert response.status_code == 401
        assert await api.manager.get_by_id(new.id) is not None


@pytest.mark.parametrize("name", ["user_id", "expires_at", "id", "request_count", "token", "level", "created_at"])
async def test_metadata_changes_cannot_reach_other_fields(api: Api, name: str) -> None:
    """S-26: fields beside the changes are refused, and names inside them stay metadata."""
    created = await api.create("u1")
    for path, credential in (
        ("sessions/current/metadata", created["token"]),
        (f"sessions/{created['id']}/metadata", APPLICATION),
    ):
        body = {"changes": {"a": 1}, name: "u2"}
        assert (await api.ask("PATCH", path, credential, json=body)).status_code == 422
        await api.ask("PATCH", path, credential, json={"changes": {name: "u2"}})
        shown = await api.show(created["id"])
        assert shown is not None
        assert (shown["user_id"], shown["expires_at"]) == ("u1", created["expires_at"])
        assert shown["metadata"] == {name: "u2"}
    assert (await api.ask("POST", "sessions", APPLICATION, json={name: 1})).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [{"Host": host} for host in ("a/api/v1/healthz", "a?x", "a#x", "evil.example", "", "127.0.0.1:1")]
    + [{"X-Forwarded-Host": "evil.example"}, {"X-Original-URL": "/healthz"}, {"X-Rewrite-Url": "/healthz"}],
)
async def test_headers_never_change_who_may_pass(api: Api, headers: dict[str, str]) -> None:
    """S-62: whatever the Host and rewriting headers say, the route decides, and no redirect is made of them."""
    response = await api.ask("GET", "stats", headers=headers)
    assert response.status_code == 401
    assert (await api.ask("GET", "stats", OPERATOR, headers=headers)).status_code == 200
    assert (await api.ask("GET", "stats/", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/stats",
        "/api//v1/stats",
        "/healthz/../api/v1/stats",
        "/api/v1/sessions/../stats",
        "/api/v1/stats;x",
        "/api/v1/stats%0A",
    ],
)
async def test_odd_paths_never_pass(api: Api, path: str) -> None:
    """S-62: a path that only resembles a route is not that route."""
    response = await api.client.get(f"http://holdfast.test{path}")
    assert response.status_code in (401, 404)
