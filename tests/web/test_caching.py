"""What an answer tells caches, once its session was looked at (S-32)."""

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.web.caching import keep_nowhere, keep_private
from holdfast.web.errors import NoSession
from holdfast.web.visitor import Visitor
from tests.web.site import BUILDERS, LINK, Builder, running, starlette_site

VARY = "Cookie, Authorization"


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
async def test_every_answer_that_looked_says_so(build: Builder) -> None:
    """S-32: private after a look, no-store with a token, both with Vary; HEAD, refusals and failures included."""
    async with running(build) as site:
        browser = site.browser

        async def told(method: str, path: str, **options: Any) -> tuple[int, str | None, str | None]:
            answer = await browser.request(method, path, **options)
            return answer.status_code, answer.headers.get("cache-control"), answer.headers.get("vary")

        assert await told("GET", "/plain") == (200, None, None)
        assert await told("GET", "/maybe") == (200, "private", VARY)
        assert await told("GET", "/me") == (401, "no-store", VARY)
        assert await told("POST", "/rotate") == (200, "private", VARY)
        assert await told("POST", "/log-in?user=u1") == (200, "no-store", VARY)
        assert await told("GET", "/maybe") == (200, "private", VARY)
        assert await told("GET", "/me") == (200, "private", VARY)
        assert await told("POST", "/rotate") == (200, "no-store", VARY)
        assert await told("POST", "/me", headers={"Sec-Fetch-Site": "cross-site"}) == (403, "no-store", VARY)
        site.store.fail("touch")
        assert await told("GET", "/me") == (503, "no-store", VARY)
        assert await told("POST", "/log-out") == (200, "no-store", VARY)
        token, _ = await site.manager.create_session("u1")
        bearer = {"Authorization": f"Bearer {token}"}
        assert await told("GET", "/me", headers=bearer) == (200, "private", VARY)
        assert await told("POST", "/rotate", headers=bearer) == (200, "no-store", VARY)
        if build is BUILDERS["starlette"]:
            await site.log_in()
            assert await told("HEAD", "/me") == (200, "private", VARY)
            assert await told("GET", "/nowhere") == (404, None, None)


async def test_a_dead_cookie_is_taken_away_without_a_trace_in_caches() -> None:
    """S-32: the answer that deletes it is kept nowhere."""
    async with running() as site:
        await site.log_in()
        site.clock.advance(25 * 3600)
        answer = await site.browser.get("/maybe", headers=LINK)
        assert (answer.headers["cache-control"], answer.headers["vary"]) == ("no-store", VARY)
        assert answer.headers["set-cookie"].startswith("__Host-session=; ")


async def _looks_then(request: Request) -> Response:
    """Looks at the session and answers in one of many ways."""
    await Visitor.of(request).session()
    how = request.query_params["how"]
    if how == "refuses":
        raise HTTPException(418, headers={"Cache-Control": "max-age=5"})
    if how == "fails":
        raise ZeroDivisionError
    if how == "needs":
        raise NoSession
    if how == "streams":
        return StreamingResponse(iter([b"a", b"b"]), headers={"Cache-Control": "public"})
    if how == "redirects":
        return RedirectResponse("/plain", 301)
    return Response(status_code=304, headers={"ETag": '"x"', "Cache-Control": "public, max-age=60, s-maxage=600"})


@pytest.mark.parametrize(
    ("how", "status", "expected"),
    [
        ("refuses", 418, "max-age=5, private"),
        ("needs", 401, "no-store"),
        ("streams", 200, "private"),
        ("redirects", 301, "private"),
        ("not modified", 304, "max-age=60, private"),
    ],
)
async def test_whatever_kind_of_answer_it_is(how: str, status: int, expected: str) -> None:
    """S-32: redirects, streams, 304, the framework's own refusals: each is private and varies."""
    async with running(starlette_site, Route("/looks", _looks_then)) as site:
        answer = await site.browser.get("/looks", params={"how": how})
        assert (answer.status_code, answer.headers["cache-control"], answer.headers["vary"]) == (status, expected, VARY)


async def test_a_fault_of_the_application_is_not_hidden() -> None:
    """An exception that is none of ours reaches the framework, which answers with a 500 that no cache keeps."""
    async with running(starlette_site, Route("/looks", _looks_then)) as site:
        answer = await site.browser.get("/looks", params={"how": "fails"})
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], "private"),
        (["public"], "private"),
        (["public, max-age=60"], "max-age=60, private"),
        (["Public", "S-MaxAge=9, Max-Age=60"], "Max-Age=60, private"),
        (["no-cache"], "no-cache, private"),
        (["no-store"], "no-store"),
        (["No-Store, max-age=0"], "No-Store, max-age=0"),
        (["private, max-age=60"], "private, max-age=60"),
        (['private="set-cookie"'], 'private="set-cookie", private'),
        (["", " , "], "private"),
    ],
)
def test_what_the_application_said_is_merged(given: list[str], kept: str) -> None:
    """S-32: nothing that lets a shared cache keep the answer stays; all else does."""
    raw = [(b"Cache-Control", value.encode()) for value in given]
    keep_private(raw, (b"Cookie",))
    assert Headers(raw=raw).getlist("cache-control") == [kept]
    keep_nowhere(raw, (b"Cookie",))
    assert Headers(raw=raw).getlist("cache-control") == ["no-store"]
    assert Headers(raw=raw).getlist("vary") == ["Cookie"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "Cookie, Authorization"),
        (["Accept-Encoding"], "Accept-Encoding, Cookie, Authorization"),
        (["accept, COOKIE"], "accept, COOKIE, Authorization"),
        (["Accept", "Cookie"], "Accept, Cookie, Authorization"),
        (["*"], "*"),
        (["Accept, *"], "Accept, *"),
    ],
)
def test_vary_is_merged(given: list[str], expected: str) -> None:
    """S-32: each header is named once; the star covers all."""
    raw = [(b"vary", value.encode()) for value in given]
    keep_private(raw, (b"Cookie", b"Authorization"))
    assert Headers(raw=raw).getlist("vary") == [expected]


def test_headers_for_shared_caches_alone_go() -> None:
    """S-32: targeted cache control would override the rest there (RFC 9213)."""
    names = ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Surrogate-Control"]
    for keep in (keep_private, keep_nowhere):
        raw = [*((name.encode(), b"max-age=600") for name in names), (b"x-other", b"1")]
        keep(raw, ())
        assert {name for name, _ in raw} == {b"cache-control", b"x-other"}
