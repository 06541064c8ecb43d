"""The same visitor in Starlette, FastAPI and Litestar, and under a prefix."""

import pytest

from tests.web.site import BUILDERS, OWN_PAGE, Builder, running

UNAUTHENTICATED = {"error": "unauthenticated", "message": "a valid credential is required"}
CROSS_SITE = {"error": "cross_site", "message": "only the application's own pages may do this with a cookie"}

pytestmark = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


async def test_a_visit_from_log_in_to_log_out(build: Builder) -> None:
    """Nobody, then a user whose requests are counted, then nobody again; the one 401 in between and after."""
    async with running(build) as site:
        refused = await site.browser.get("/me")
        assert (refused.status_code, refused.json()) == (401, UNAUTHENTICATED)
        assert await site.who() is None
        id = await site.log_in("u1")
        for count in (1, 2):
            assert (await site.browser.get("/me")).json() == {"user": "u1", "count": count, "id": id}
        assert (await site.browser.post("/rotate")).json() == {"rotated": True}
        assert (await site.browser.get("/maybe")).json() == {"user": "u1", "count": 3, "id": id}
        assert (await site.browser.post("/log-out")).json() == {"ended": True}
        assert (site.token, await site.who()) == (None, None)
        assert (await site.browser.get("/me")).json() == UNAUTHENTICATED
        assert await site.manager.get_active_session_count() == 0


async def test_a_program_comes_with_its_token(build: Builder) -> None:
    """A bearer needs no cookie, gets none, and is not asked which page it is."""
    async with running(build) as site, site.new_browser(Accept="*/*") as program:
        token, _ = await site.manager.create_session("u2")
        header = {"Authorization": f"Bearer {token}"}
        assert (await program.post("/me", headers=header)).json()["user"] == "u2"
        assert (await program.post("/rotate", headers=header)).json() == {"rotated": True}
        assert (await program.get("/me", headers=header)).status_code == 401
        assert dict(program.cookies) == {}


async def test_another_sites_page_is_refused(build: Builder) -> None:
    """S-33: what it sends with the visitor's cookie gets the fixed 403, before the application sees it."""
    async with running(build) as site:
        await site.log_in()
        before = site.calls
        for path in ("/me", "/log-out", "/plain", "/nowhere"):
            refused = await site.browser.post(path, headers={"Sec-Fetch-Site": "cross-site"})
            assert (refused.status_code, refused.json()) == (403, CROSS_SITE)
        assert site.calls == before
        assert await site.who() == "u1"


async def test_a_store_that_is_away_is_not_a_log_out(build: Builder) -> None:
    """S-72: a 503 in the words of the HTTP interface; the cookie stays, and works again afterwards."""
    async with running(build) as site:
        await site.log_in()
        for method, path, broken in (
            ("GET", "/me", "touch"),
            ("POST", "/log-out", "end"),
            ("POST", "/rotate", "rotate"),
        ):
            site.store.fail(broken)
            answer = await site.browser.request(method, path)
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert answer.headers["Retry-After"] == "1"
            assert "set-cookie" not in answer.headers
        assert await site.who() == "u1"


async def test_who_never_asks_pays_nothing(build: Builder) -> None:
    """A request whose session nobody looks at makes no call of the store, and its answer says nothing of cookies."""
    async with running(build) as site:
        await site.log_in()
        before = site.calls
        for method in ("GET", "POST"):
            answer = await site.browser.request(method, "/plain", headers=OWN_PAGE)
            assert answer.status_code == 200
            assert not {"vary", "cache-control", "set-cookie"} & set(answer.headers)
        assert site.calls == before
