"""The session cookie in the HTTP interface: a session's own routes take it, nobody else's do."""

from typing import Any

import httpx2
import pytest

from holdfast.web.cookies import DEFAULT_NAME
from tests.api.api import APPLICATION, BASE, OPERATOR, Api, bearer, running
from tests.api.test_owners import APPLICATIONS, OPERATORS, OWN

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
READS = [(method, path, body) for method, path, body in OWN if method == "GET"]
CHANGES = [(method, path, body) for method, path, body in OWN if method != "GET"]


def cookie(token: str, name: str = DEFAULT_NAME) -> dict[str, str]:
    """The header of a browser that has a token in its cookie."""
    return {"Cookie": f"{name}={token}"}


async def asked(api: Api, method: str, path: str, body: Any, id: str, headers: dict[str, str]) -> httpx2.Response:
    """A request to a route of the tables, without the client's own memory for cookies."""
    url = BASE + path.format(id=id)
    api.client.cookies.clear()
    return await api.client.request(method, url, headers=headers, **({} if body is None else {"json": body}))


@pytest.mark.parametrize(("method", "path", "body"), OWN)
async def test_a_cookie_does_what_its_bearer_does(api: Api, method: str, path: str, body: Any) -> None:
    """S-28, S-33: each own route with the cookie from the application's page answers as with the bearer."""
    answers = []
    for way in (bearer, lambda token: cookie(token) | OWN_PAGE):
        created = await api.create()
        answers.append(await asked(api, method, path, body, created["id"], way(created["token"])))
    assert answers[0].status_code == answers[1].status_code < 300
    if "rotate" not in path and answers[0].content:
        assert set(answers[0].json()) == set(answers[1].json())


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_another_sites_page_changes_nothing(api: Api, method: str, path: str, body: Any) -> None:
    """S-33: each own route that changes something, with every combination that does not say whose page it is."""
    created = await api.create()
    before = await api.show(created["id"])
    for headers in (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": "http://holdfast.test"},
        {"Origin": "https://evil.test"},
        {"X-Forwarded-Host": "evil.test", "Origin": "https://evil.test"},
    ):
        answer = await asked(api, method, path, body, created["id"], cookie(created["token"]) | headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "cross_site")
        assert "set-cookie" not in answer.headers
    assert await api.show(created["id"]) == before


async def test_a_listed_origin_may() -> None:
    """S-33: a page that HOLDFAST_ALLOWED_ORIGINS names acts with the cookie, without Fetch-Metadata too."""
    async with running(allowed_origins=("https://pages.test",)) as api:
        for headers in (
            {"Origin": "https://pages.test"},
            {"Origin": "https://pages.test", "Sec-Fetch-Site": "cross-site"},
        ):
            created = await api.create()
            answer = await asked(api, "DELETE", "sessions/current", None, "", cookie(created["token"]) | headers)
            assert answer.status_code == 204


async def test_a_bearer_is_not_asked_where_it_is_from(api: Api) -> None:
    """S-33: with Authorization the cookie does not count, so there is nothing to misuse."""
    created, other = await api.create("u1"), await api.create("u2")
    headers = bearer(created["token"]) | cookie(other["token"]) | {"Sec-Fetch-Site": "cross-site"}
    answer = await asked(api, "DELETE", "sessions/current", None, "", headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)
    assert await api.show(created["id"]) is None
    assert await api.show(other["id"]) is not None


async def test_a_bad_bearer_does_not_fall_back(api: Api) -> None:
    """S-36: Authorization decides, whatever the cookie opens."""
    token = (await api.create())["token"]
    for bad in ("Bearer x", f"Basic {token}", "", f"Bearer {APPLICATION}"):
        answer = await asked(api, "GET", "sessions/current", None, "", cookie(token) | {"Authorization": bad})
        assert answer.status_code == 401


async def test_rotation_by_cookie_shows_no_token(api: Api) -> None:
    """S-12, S-13: the new token is in the cookie only, out of the reach of scripts, and the old one is dead."""
    created = await api.create()
    answer = await asked(api, "POST", "sessions/current/rotate", None, "", cookie(created["token"]) | OWN_PAGE)
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "expires_at"}
    assert answer.json()["id"] == created["id"]
    value, _, attributes = answer.headers["set-cookie"].partition("; ")
    assert attributes == "Path=/; Secure; HttpOnly; SameSite=Lax"
    token = value.partition("=")[2]
    assert token not in answer.text
    assert (await api.ask("GET", "sessions/current", token)).status_code == 200
    assert (await api.ask("GET", "sessions/current", created["token"])).status_code == 401


async def test_logging_out_by_cookie_deletes_it(api: Api) -> None:
    """S-31: with the attributes that it was set with."""
    token = (await api.create())["token"]
    answer = await asked(api, "DELETE", "sessions/current", None, "", cookie(token) | OWN_PAGE)
    assert answer.status_code == 204
    assert answer.headers["set-cookie"] == (
        f"{DEFAULT_NAME}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    )


async def test_a_dead_cookie_goes(api: Api) -> None:
    """S-04, S-31: it is a 401 in the same bytes as any other, and the browser forgets it."""
    created = await api.create()
    await api.manager.delete_session(created["token"])
    dead = await asked(api, "GET", "sessions/current", None, "", cookie(created["token"]))
    none = await asked(api, "GET", "sessions/current", None, "", {})
    assert (dead.status_code, dead.content) == (none.status_code, none.content) == (401, none.content)
    assert dead.headers["set-cookie"].startswith(f"{DEFAULT_NAME}=;")
    assert "set-cookie" not in none.headers


@pytest.mark.parametrize(("method", "path", "body"), OWN)
async def test_answers_are_kept_nowhere(api: Api, method: str, path: str, body: Any) -> None:
    """S-32: no-store and Vary on each own route: with the cookie, with a dead one, refused, and without any."""
    created = await api.create()
    for headers in ({}, cookie("x"), cookie(created["token"]), cookie(created["token"]) | OWN_PAGE):
        answer = await asked(api, method, path, body, created["id"], headers)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Cookie, Authorization"


@pytest.mark.parametrize(("method", "path", "body"), [*APPLICATIONS, *OPERATORS])
async def test_no_other_route_takes_a_cookie(api: Api, method: str, path: str, body: Any) -> None:
    """S-36: neither a session's token nor a credential of application or operator in the cookie opens them."""
    created = await api.create()
    for token in (created["token"], APPLICATION, OPERATOR):
        answer = await asked(api, method, path, body, created["id"], cookie(token) | OWN_PAGE)
        assert answer.status_code == 401
    assert await api.show(created["id"]) is not None


async def test_a_crawl_by_get_changes_no_row(api: Api) -> None:
    """S-34: GET and HEAD of every path there is, with the cookie and as the operator, change nothing at all."""
    created = await api.create()
    before = await api.show(created["id"])
    writes = api.store.calls["create"], api.store.calls["touch"]
    paths = {path for _, path, _ in [*OWN, *APPLICATIONS, *OPERATORS]} | {"../../healthz", "../../docs", "../../"}
    for path in sorted(paths):
        for method in ("GET", "HEAD"):
            for headers in (cookie(created["token"]) | OWN_PAGE, bearer(OPERATOR)):
                answer = await asked(api, method, path, None, created["id"], headers)
                assert answer.status_code != 500, path
    assert await api.show(created["id"]) == before
    assert (api.store.calls["create"], api.store.calls["touch"]) == writes
    changing = ("extend", "rotate", "set_metadata", "end", "end_user", "erase_user", "create_ticket", "delete_ended")
    assert [name for name in changing if api.store.calls[name]] == []


async def test_the_cookie_as_it_is_set_up() -> None:
    """S-29: another name, Strict, and over plain HTTP a name of its own without Secure."""
    for settings, name, attributes in (
        ({"cookie_name": "__Secure-s"}, "__Secure-s", "Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"cookie_same_site": "strict"}, DEFAULT_NAME, "Path=/; Secure; HttpOnly; SameSite=Strict"),
        ({"cookie_insecure": True}, "session-insecure-dev", "Path=/; HttpOnly; SameSite=Lax"),
        ({"cookie_insecure": True, "cookie_name": "s"}, "s", "Path=/; HttpOnly; SameSite=Lax"),
    ):
        async with running(**settings) as api:
            token = (await api.create())["token"]
            answer = await asked(api, "POST", "sessions/current/rotate", None, "", cookie(token, name) | OWN_PAGE)
            assert answer.headers["set-cookie"].partition("; ")[2] == attributes
            assert answer.headers["set-cookie"].startswith(f"{name}=hfs_")
