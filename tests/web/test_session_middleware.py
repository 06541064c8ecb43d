"""The drop-in does what Starlette's session middleware does: each of its behaviours, on a store."""

import ast
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from holdfast import InvalidArgument
from holdfast.memory import MemoryStore
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.tokens import new_token
from holdfast.web.origins import Origins
from holdfast.web.session_middleware import SessionMiddleware
from tests.web.keeping import COOKIE, KINDS, Browser, Places, keeping

SIGNED = "eyJ1c2VyX2lkIjogMX0=.aSTN0g.Kx0bq7m5s0mYw9y9Zb3q1Q2r3s4"
"""What Starlette's own middleware leaves in browsers."""


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Every kind in turn."""
    return Places(request.param, request, tmp_path)


@pytest.fixture
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """For what no store has a part in."""
    return Places("memory", request, tmp_path)


def attributes(header: str) -> dict[str, str]:
    """The attributes of a `Set-Cookie` header, by their names in lower case."""
    pairs = (part.partition("=") for part in header.split("; ")[1:])
    return {name.lower(): value for name, _, value in pairs}


async def test_values_stay_from_request_to_request(places: Places) -> None:
    """What one request puts in, the next one finds, until it is cleared."""
    async with keeping(places) as site:
        browser = site.browser()
        assert await browser.read() == {}
        answer = await browser.do(["update", {"some": "data"}])
        assert answer.json() == {"some": "data"}
        assert attributes(answer.headers["set-cookie"])["max-age"] == str(14 * 24 * 3600)
        assert await browser.read() == {"some": "data"}
        assert (await browser.do(["clear"])).json() == {}
        assert browser.token is None
        assert await browser.read() == {}
        assert await site.live() == []


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([["set", "a", "2"]], {"a": "2", "b": "1"}),
        ([["del", "a"]], {"b": "1"}),
        ([["pop", "a"]], {"b": "1"}),
        ([["popitem"]], {"a": "1"}),
        ([["update", {"c": "3"}]], {"a": "1", "b": "1", "c": "3"}),
        ([["ior", {"c": "3"}]], {"a": "1", "b": "1", "c": "3"}),
        ([["setdefault", "c", "3"]], {"a": "1", "b": "1", "c": "3"}),
        ([["set", "c", []], ["append", "c", 1]], {"a": "1", "b": "1", "c": [1]}),
    ],
    ids=lambda each: each[0][0] if isinstance(each, list) else "",
)
async def test_every_way_to_change_it_is_kept(places: Places, steps: list[list[object]], left: dict[str, str]) -> None:
    """Each of a dict's own methods."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", {"a": "1", "b": "1"}])
        answer = await browser.do(*steps)
        assert answer.json() == left
        assert "set-cookie" in answer.headers
        assert await browser.read() == left


async def test_a_cookie_is_set_by_a_change_alone(places: Places) -> None:
    """Reading sets none, and writes nothing."""
    async with keeping(places) as site:
        browser = site.browser()
        assert "set-cookie" not in (await browser.do(["read"])).headers
        assert "set-cookie" in (await browser.do(["set", "some", "data"])).headers
        for steps in ([["read"]], [["setdefault", "some", "other"]], [["pop", "none", None]], []):
            answer = await browser.do(*steps)
            assert "set-cookie" not in answer.headers
        assert site.store.calls["set_metadata"] == 0


async def test_a_change_inside_a_value_is_not_noticed(places: Places) -> None:
    """As with Starlette. It is saved as soon as anything else is, or when it is pointed out."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["set", "list", [1]])
        await browser.do(["append", "list", 2])
        assert await browser.read() == {"list": [1]}
        await browser.do(["append", "list", 2], ["set", "other", 1])
        assert await browser.read() == {"list": [1, 2], "other": 1}
        await browser.do(["append", "list", 3], ["mark_modified"])
        assert await browser.read() == {"list": [1, 2, 3], "other": 1}


async def test_caches_are_told(places: Places) -> None:
    """Looked at: private and `Vary: Cookie`; changed: no-store; neither: nothing (S-32)."""
    async with keeping(places) as site:
        browser = site.browser()
        untouched = (await browser.do()).headers
        assert "vary" not in untouched
        assert "cache-control" not in untouched
        for steps, kept in (
            ([["read"]], "private"),
            ([["set", "some", "data"]], "no-store"),
            ([["read"]], "private"),
            ([["pop", "some"]], "no-store"),
        ):
            headers = (await browser.do(*steps)).headers
            assert headers["vary"] == "Cookie"
            assert headers["cache-control"] == kept


@pytest.mark.parametrize("values", [{"a": "1"}, {"a": "1", "b": "2"}], ids=["last", "one of two"])
async def test_popping_is_a_change(places: Places, values: dict[str, str]) -> None:
    """The last key takes the session and the cookie with it, another one leaves both."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["update", values])
        answer = await browser.do(["pop", "a"])
        assert "set-cookie" in answer.headers
        assert (browser.token is None) == (len(values) == 1)
        assert len(await site.live()) == len(values) - 1


@pytest.mark.parametrize("partitioned", [False, True])
async def test_partitioned(memory: Places, partitioned: bool) -> None:
    """The attribute is set, and repeated when the cookie is deleted (S-31)."""
    async with keeping(memory, https_only=True, same_site="none", partitioned=partitioned) as site:
        browser = site.browser()
        for steps in ([["set", "a", 1]], [["clear"]]):
            found = attributes((await browser.do(*steps)).headers["set-cookie"])
            assert ("partitioned" in found) is partitioned
            assert found["samesite"] == "none"
            assert "secure" in found


async def test_deleting_repeats_the_attributes(memory: Places) -> None:
    """Or the browser keeps the cookie (S-31)."""
    options: dict[str, Any] = {"path": "/do", "domain": "example.com", "https_only": True, "same_site": "strict"}
    async with keeping(memory, **options) as site:
        browser = site.browser()
        setting = attributes((await browser.do(["set", "a", 1])).headers["set-cookie"])
        deleting = attributes((await browser.do(["clear"])).headers["set-cookie"])
        assert deleting.pop("expires") == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert setting.pop("max-age") == str(14 * 24 * 3600)
        assert setting == deleting
        assert setting == {"path": "/do", "domain": "example.com", "secure": "", "samesite": "strict", "httponly": ""}


async def test_https_only(places: Places) -> None:
    """The browser keeps the cookie to itself over plain HTTP (S-29)."""
    async with keeping(places, https_only=True) as site:
        plain, secure = site.browser(base="http://app.example.com"), site.browser()
        assert (await plain.do(["update", {"some": "data"}])).json() == {"some": "data"}
        assert await plain.read() == {}
        await secure.do(["update", {"some": "data"}])
        assert await secure.read() == {"some": "data"}
        await secure.do(["clear"])
        assert await secure.read() == {}


async def test_without_https_only_it_is_said_once(memory: Places, caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's default sets no Secure; here the log says what that means (S-29)."""
    async with keeping(memory) as site:
        await site.browser().do(["set", "a", 1])
        await site.browser().do(["set", "a", 1])
    assert caplog.text.count("is set without Secure") == 1
    caplog.clear()
    async with keeping(memory, https_only=True) as site:
        await site.browser().do(["set", "a", 1])
    assert "Secure" not in caplog.text


async def test_the_host_prefix(places: Places) -> None:
    """The safest name works like any other, with what it needs (S-29)."""
    async with keeping(places, session_cookie="__Host-session", https_only=True) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        assert await browser.read() == {"a": 1}
    with pytest.raises(InvalidArgument, match="__Host-"):
        SessionMiddleware(site.app, session_cookie="__Host-session")


async def test_a_path_under_a_mount(memory: Places) -> None:
    """An application below another one has a cookie of its own path."""

    async def put(request: Request) -> PlainTextResponse:
        request.session["some"] = "data"
        return PlainTextResponse("put")

    manager = SessionManager(MemoryStore(), sweep_interval=None)
    inner = SessionMiddleware(Route("/put", put), manager=manager, path="/below")
    async with keeping(memory, Mount("/below", inner)) as site, manager:
        answer = await site.browser().client.get("/below/put")
        assert attributes(answer.headers["set-cookie"])["path"] == "/below"


async def test_without_max_age(places: Places) -> None:
    """A cookie for as long as the browser is open, set once; without it the session is not found."""
    async with keeping(places, max_age=None) as site:
        browser = site.browser()
        answer = await browser.do(["set", "some", "data"])
        assert "max-age" not in attributes(answer.headers["set-cookie"])
        assert "set-cookie" not in (await browser.do(["set", "some", "more"])).headers
        browser.client.cookies.delete(COOKIE)
        assert await browser.read() == {}


async def test_a_domain(memory: Places) -> None:
    """As it is written, with a dot in front too; what no domain may be is refused."""
    async with keeping(memory, domain=".example.com") as site:
        browser = site.browser()
        answer = await browser.do(["set", "some", "data"])
        assert attributes(answer.headers["set-cookie"])["domain"] == ".example.com"
        assert await browser.read() == {"some": "data"}
    with pytest.raises(InvalidArgument, match="domain"):
        SessionMiddleware(site.app, domain="example.com; secure")


@pytest.mark.parametrize("value", ["invalid", SIGNED, "hfs_" + "a" * 51, "%00", "null"])
async def test_a_token_that_nobody_issued(places: Places, value: str) -> None:
    """It opens nothing, costs no call, makes no row, and stays until the application writes (S-04, S-05)."""
    async with keeping(places) as site:
        browser = site.browser()
        browser.token = value
        for steps in ([], [["read"]], [["clear"]]):
            answer = await browser.do(*steps)
            assert answer.status_code == 200
            assert "set-cookie" not in answer.headers
        assert site.calls == 0
        answer = await browser.do(["set", "a", 1])
        assert value not in answer.headers["set-cookie"]
        assert await browser.read() == {"a": 1}
        assert len(await site.live()) == 1


async def test_a_token_of_no_session(places: Places) -> None:
    """One that is well formed is looked up, and is never adopted (S-04)."""
    async with keeping(places) as site:
        browser, unknown = site.browser(), new_token()
        browser.token = unknown
        assert "set-cookie" not in (await browser.do(["read"])).headers
        assert await site.live() == []
        await browser.do(["set", "a", 1])
        assert browser.token != unknown
        assert await site.manager.get_session(unknown) is None


async def test_two_session_cookies(places: Places) -> None:
    """Nobody knows which one counts, so neither does (S-30)."""
    async with keeping(places) as site:
        one, other = site.browser(), site.browser()
        await one.do(["set", "who", "one"])
        await other.do(["set", "who", "other"])
        both = {"Cookie": f"{COOKIE}={one.token}; {COOKIE}={other.token}"}
        calls = site.calls
        assert (await site.browser().do(["read"], headers=both)).json() == {}
        assert site.calls == calls


async def test_what_a_request_costs(places: Places) -> None:
    """Without the cookie nothing; with it one activity, whether or not the application looks."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do()
        await browser.do(["read"])
        assert site.calls == 0
        await browser.do(["set", "a", 1])
        requests: list[list[list[Any]]] = [[], [["read"]], [["set", "a", 2]], [["clear"], ["set", "a", 3]]]
        for number, steps in enumerate(requests, start=1):
            session = await site.session(browser)
            assert session is not None
            assert session.request_count == number - 1
            calls = site.store.calls["touch"]
            await browser.do(*steps)
            assert site.store.calls["touch"] == calls + 1


async def test_the_public_id(places: Places) -> None:
    """`request.session.id` names the session, once there is one."""
    async with keeping(places) as site:
        browser = site.browser()
        await browser.do(["read"])
        assert site.seen[-1].id is None
        await browser.do(["set", "a", 1])
        await browser.do(["read"])
        session = await site.session(browser)
        assert session is not None
        assert site.seen[-1].id == session.id


def test_the_arguments_are_starlettes() -> None:
    """Names, order and defaults, but for the key, which may be left out; ours follow by name only."""
    spec = importlib.util.find_spec("starlette.middleware.sessions")
    assert spec is not None
    assert spec.origin is not None
    # Read and not imported: that would need the package it signs with.
    tree = ast.parse(Path(spec.origin).read_text())
    (theirs,) = (
        item
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "SessionMiddleware"
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
    )
    names = [each.arg for each in theirs.args.args]
    defaults = [eval(compile(ast.Expression(each), "", "eval")) for each in theirs.args.defaults]  # noqa: S307 - of an installed package
    ours = inspect.signature(SessionMiddleware.__init__).parameters
    assert list(ours)[: len(names)] == names
    assert [ours[name].default for name in names[-len(defaults) :]] == defaults
    assert ours["secret_key"].default is None
    assert {ours[name].kind for name in list(ours)[len(names) :]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session_cookie": "a b"}, "name"),
        ({"session_cookie": "__Secure-x"}, "secure"),
        ({"same_site": "sometimes"}, "same_site"),
        ({"max_age": "3600"}, "max_age"),
        ({"path": "nowhere"}, "path"),
    ],
)
def test_what_no_browser_takes(options: dict[str, Any], message: str) -> None:
    """It is refused where it is written, not where it is missed."""
    with pytest.raises(InvalidArgument, match=message):
        SessionMiddleware(PlainTextResponse(), **options)


async def test_every_request_has_its_own(places: Places) -> None:
    """Two browsers never see each other's values (S-80)."""
    async with keeping(places) as site:
        browsers = [site.browser() for _ in range(5)]
        for number, browser in enumerate(browsers):
            await browser.do(["set", "number", number])

        async def number_of(browser: Browser) -> int:
            return int((await browser.read())["number"])

        assert [await number_of(browser) for browser in browsers] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://front.example.com"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({}, 403),
    ],
)
async def test_with_a_list_of_origins(memory: Places, headers: dict[str, str], status: int) -> None:
    """What changes something with the cookie must come from a page that may act (S-33)."""
    async with keeping(memory, origins=Origins(["https://front.example.com"])) as site:
        browser = site.browser()
        await browser.do(["set", "a", 1])
        ran = site.ran
        answer = await browser.do(["set", "a", 2], headers=headers)
        assert answer.status_code == status
        assert site.ran == ran + (status == 200)
        session = await site.session(browser)
        assert session is not None
        assert session.metadata == {"a": 2 if status == 200 else 1}
