"""The session cookie: how it is set, and which bytes that come back are taken for it."""

import logging
from http.cookiejar import CookieJar
from typing import Any

import pytest

from holdfast import InvalidArgument
from holdfast.sessions.tokens import new_token
from holdfast.web import cookies
from holdfast.web.cookies import (
    AMBIGUOUS,
    DEFAULT_NAME,
    DEVELOPMENT_NAME,
    CookieOptions,
    delete_cookie,
    session_cookie,
    set_cookie,
)
from tests.web.serving import ask, listening
from tests.web.site import running

NAME = DEFAULT_NAME.encode()
DEFAULT = CookieOptions()

# Every way that is not the one way, each with a token that would open a session if it were read.
REFUSED: dict[str, list[bytes]] = {
    "twice in one line": [b"%(name)s=%(token)s; %(name)s=%(token)s"],
    "twice with another between": [b"%(name)s=%(token)s; a=b; %(name)s=other"],
    "in two header lines": [b"%(name)s=%(token)s", b"%(name)s=%(token)s"],
    "a second one that is empty": [b"%(name)s=%(token)s; %(name)s="],
    "a second one without a value": [b"%(name)s; %(name)s=%(token)s"],
    "a no-break space before the name": [b"\xa0%(name)s=%(token)s"],
    "a no-break space after the name": [b"%(name)s\xa0=%(token)s"],
    "a next-line before the name": [b"\x85%(name)s=%(token)s"],
    "a next-line after the name": [b"%(name)s\x85=%(token)s"],
    "an en quad in UTF-8": [b"\xe2\x80\x80%(name)s=%(token)s"],
    "two spaces before the name": [b"a=b;  %(name)s=%(token)s"],
    "a space after the name": [b"%(name)s =%(token)s"],
    "a tab before the name": [b"a=b;\t%(name)s=%(token)s"],
    "a tab after the name": [b"%(name)s\t=%(token)s"],
    "a quoted name": [b'"%(name)s"=%(token)s'],
    "no name, and a value that reads like it": [b"=%(name)s=%(token)s"],
    "no name twice over": [b"==%(name)s=%(token)s"],
    "no name after a space": [b"= %(name)s=%(token)s"],
    "a lookalike after a good one": [b"%(name)s=%(token)s; =%(name)s=%(token)s"],
    "a lookalike before a good one": [b"\xa0%(name)s=x; %(name)s=%(token)s"],
    "a quoted value": [b'%(name)s="%(token)s"'],
    "a quote at the end of the value": [b'%(name)s=%(token)s"'],
    "a space before the value": [b"%(name)s= %(token)s"],
    "a space after the value": [b"%(name)s=%(token)s ; a=b"],
    "a comma after the value": [b"%(name)s=%(token)s, a=b"],
    "a backslash in the value": [b"%(name)s=%(token)s\\"],
    "a byte beyond ASCII in the value": [b"%(name)s=%(token)s\xe9"],
    "a no-break space after the value": [b"%(name)s=%(token)s\xa0"],
    "nothing but the name": [b"%(name)s"],
    "an empty value": [b"%(name)s="],
    "a value that is too long": [b"%(name)s=%(token)s" + b"x" * 4096],
}
# What else a request may carry; none of it is the session cookie, and none of it hides one.
OTHERS: dict[str, list[bytes]] = {
    "another cookie": [b"a=b"],
    "another case": [b"__host-session=%(token)s; __HOST-SESSION=%(token)s"],
    "the name as a value": [b"a=%(name)s"],
    "the whole cookie as a value": [b"a=%(name)s=%(token)s"],
    "the name within another": [b"x%(name)s=%(token)s; %(name)s2=%(token)s; .%(name)s=%(token)s"],
    "quotes and spaces": [b'a="b c"; d= e ; "f"=g'],
    "bytes beyond ASCII": [b"\xe9=\xa0; \x85=\xff"],
    "empty ones": [b"; ;;=; =x; a;"],
    "two of one name": [b"a=b; a=c"],
    "an open quote": [b'a="b'],
}


def scope(*lines: bytes) -> dict[str, Any]:
    """A request with these lines of cookies."""
    return {"type": "http", "headers": [(b"host", b"x"), *((b"cookie", line) for line in lines)]}


def filled(lines: list[bytes], token: bytes) -> list[bytes]:
    """The lines with the name and a token in their places."""
    return [line % {b"name": NAME, b"token": token} for line in lines]


def test_the_cookie_is_read_where_it_stands() -> None:
    """First, last, between others, in a line of its own, and with nothing between the pairs but the semicolon."""
    for lines in (
        [b"%(name)s=t"],
        [b"a=b; %(name)s=t"],
        [b"%(name)s=t; a=b"],
        [b"a=b;%(name)s=t;c=d"],
        [b"a=b", b"%(name)s=t"],
    ):
        assert session_cookie(scope(*filled(lines, b"t")), DEFAULT) == "t"
    assert session_cookie(scope(), DEFAULT) is None
    assert session_cookie(scope(b""), DEFAULT) is None


@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_ambiguous(lines: list[bytes]) -> None:
    """S-30: it is neither a credential nor the absence of one."""
    assert session_cookie(scope(*filled(lines, b"token")), DEFAULT) is AMBIGUOUS


@pytest.mark.parametrize("lines", OTHERS.values(), ids=OTHERS)
def test_other_cookies_may_be_anything(lines: list[bytes]) -> None:
    """S-30: they are not the session cookie, and do not disturb it."""
    given = filled(lines, b"token")
    assert session_cookie(scope(*given), DEFAULT) is None
    assert session_cookie(scope(given[0] + b"; " + NAME + b"=t"), DEFAULT) == "t"
    assert session_cookie(scope(NAME + b"=t; " + given[0]), DEFAULT) == "t"
    assert session_cookie(scope(NAME + b"=t", *given), DEFAULT) == "t"


async def test_the_bytes_of_a_request_decide() -> None:
    """S-30: over a real port, of all these headers with a good token only the plain one opens its session."""
    async with running() as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token.encode()
        plain = NAME + b"=" + token
        assert (await ask(port, "GET", "/me", b"Cookie: " + plain)).status == 200
        before = site.calls
        for what, lines in REFUSED.items():
            answer = await ask(port, "GET", "/me", *(b"Cookie: " + line for line in filled(lines, token)))
            assert answer.status == 401, what
            # It may be an attacker's; without it the next one could be believed.
            assert answer.all("set-cookie") == [], what
        assert site.calls == before
        for what, lines in OTHERS.items():
            given = [b"Cookie: " + line for line in filled(lines, token)]
            assert (await ask(port, "GET", "/me", *given)).status == 401, what
            assert (await ask(port, "GET", "/me", *given, b"Cookie: " + plain)).status == 200, what


async def test_a_bad_authorization_is_no_reason_to_look_at_the_cookie() -> None:
    """S-30, S-36: the header decides when it is there, whatever is in it; two of them are a bad one."""
    async with running() as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token.encode()
        cookie = b"Cookie: " + NAME + b"=" + token
        bearer = b"Authorization: Bearer " + token
        for bad in (b"Authorization: Bearer x", b"Authorization:", b"Authorization: Basic YTpi", bearer + b"x"):
            assert (await ask(port, "GET", "/me", bad, cookie)).status == 401
        assert (await ask(port, "GET", "/me", bearer, bearer, cookie)).status == 401
        assert (await ask(port, "GET", "/me", bearer, b"Cookie: " + NAME + b"=x")).status == 200


@pytest.mark.parametrize("way", ["cookie", "bearer"])
async def test_a_way_that_is_switched_off_is_not_seen(way: str) -> None:
    """S-36: with cookies off a good cookie opens nothing, with bearers off a good bearer; the other one works."""
    off = {"cookie": None} if way == "cookie" else {"bearer": False}
    async with running(**off) as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token.encode()
        lines = {"cookie": b"Cookie: " + NAME + b"=" + token, "bearer": b"Authorization: Bearer " + token}
        unused = lines.pop(way)
        assert (await ask(port, "GET", "/me", unused)).status == 401
        assert (await ask(port, "GET", "/me", *lines.values())).status == 200
        answer = await ask(port, "GET", "/me", unused, *lines.values())
        assert (answer.status, answer.one("vary")) == (200, "Authorization" if way == "cookie" else "Cookie")


async def test_a_token_in_another_place_is_not_seen() -> None:
    """S-36: in the query, in a form, in JSON, under other names: as if it were not there."""
    async with running() as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token
        form = b"Content-Type: application/x-www-form-urlencoded"
        json = b"Content-Type: application/json"
        own = b"Sec-Fetch-Site: same-origin"
        for name in ("token", "session", "access_token", "session_id", DEFAULT_NAME):
            pair = f"{name}={token}".encode()
            for answer in (
                await ask(port, "GET", f"/me?{name}={token}"),
                await ask(port, "POST", "/me", own, form, body=pair),
                await ask(port, "POST", "/me", own, json, body=b'{"%s": "%s"}' % (name.encode(), token.encode())),
                await ask(port, "GET", "/me", f"X-{name.strip('_')}: {token}".encode()),
                await ask(port, "GET", "/me", f"Cookie: {name.lower()}={token}".encode()),
            ):
                assert (answer.status, answer.all("set-cookie")) == (401, [])
        assert (site.store.calls["touch"], site.store.calls["get"]) == (0, 0)


# What is set


def attributes(header: str) -> dict[str, str]:
    """The attributes of a Set-Cookie header, names in lower case."""
    pairs = (part.strip().partition("=") for part in header.split(";")[1:])
    return {name.lower(): value for name, _, value in pairs}


def test_the_default_cookie() -> None:
    """S-29: the prefix __Host-, Secure, HttpOnly, SameSite=Lax, Path=/, and neither Domain nor an end."""
    token = new_token()
    header = set_cookie(DEFAULT, token)
    assert header.startswith(f"__Host-session={token}; ")
    assert attributes(header) == {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"same_site": "strict"}, {"path": "/", "secure": "", "httponly": "", "samesite": "Strict"}),
        ({"max_age": 60}, {"path": "/", "secure": "", "httponly": "", "samesite": "Lax", "max-age": "60"}),
        (
            {"name": "__Secure-s", "path": "/app", "domain": "example.com"},
            {"path": "/app", "domain": "example.com", "secure": "", "httponly": "", "samesite": "Lax"},
        ),
        ({"name": "s", "secure": False}, {"path": "/", "httponly": "", "samesite": "Lax"}),
    ],
)
def test_the_cookie_as_it_is_chosen(options: dict[str, Any], expected: dict[str, str]) -> None:
    """S-29, S-31: each option is one attribute, HttpOnly is always there, and deletion repeats all of them."""
    chosen = CookieOptions(**options)
    assert attributes(set_cookie(chosen, "t")) == expected
    deleted = delete_cookie(chosen)
    assert deleted.startswith(f"{chosen.name}=;")
    assert attributes(deleted) == {**expected, "max-age": "0", "expires": "Thu, 01 Jan 1970 00:00:00 GMT"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secure": False}, "development"),
        ({"path": "/app"}, "__Host-"),
        ({"domain": "example.com"}, "__Host-"),
        ({"name": "__host-x", "secure": False}, "__Host-"),
        ({"name": "__Secure-x", "secure": False}, "__Secure-"),
        ({"name": "__Http-x", "secure": False}, "__Http-"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a;b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": "é"}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 4000}, "name"),
        ({"same_site": "none"}, "same_site"),
        ({"same_site": "Lax"}, "same_site"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"max_age": 401 * 24 * 3600}, "max_age"),
        ({"name": "s", "path": "app"}, "path"),
        ({"name": "s", "path": "/a;Secure"}, "path"),
        ({"name": "s", "path": "/a\r\nX: y"}, "path"),
        ({"name": "s", "path": "/" + "x" * 1024}, "path"),
        ({"name": "s", "domain": ".example.com"}, "domain"),
        ({"name": "s", "domain": "Example.com"}, "domain"),
        ({"name": "s", "domain": "example.com; Secure"}, "domain"),
        ({"name": "s", "domain": ""}, "domain"),
    ],
)
def test_what_browsers_would_drop_is_refused(options: dict[str, Any], says: str) -> None:
    """S-29: an option that contradicts the prefix, or that no header can hold, is an error that names it."""
    with pytest.raises(InvalidArgument, match=says):
        CookieOptions(**options)


@pytest.mark.parametrize("token", ["", "a b", "a;b", "a\r\nSet-Cookie: x=y", 'a"', "é", "x" * 4096])
def test_a_token_that_no_cookie_holds_is_refused(token: str) -> None:
    """S-29: name and value stay within 4096 bytes, and nothing in the value ends it or the line."""
    with pytest.raises(InvalidArgument, match="fits in no cookie"):
        set_cookie(DEFAULT, token)


def test_name_and_value_at_the_limit_pass() -> None:
    """4096 bytes are set and read back."""
    value = "x" * (4096 - len(DEFAULT_NAME))
    assert set_cookie(DEFAULT, value).startswith(f"{DEFAULT_NAME}={value};")
    assert session_cookie(scope(f"{DEFAULT_NAME}={value}".encode()), DEFAULT) == value


def test_the_development_cookie_says_what_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-29: over plain HTTP it has another name, and the first one that is set is a warning in the log, once."""
    monkeypatch.setattr(cookies, "_warned", set())
    options = CookieOptions.development()
    assert (options.name, options.secure) == (DEVELOPMENT_NAME, False)
    token = new_token()
    with caplog.at_level(logging.DEBUG, logger="holdfast.web"):
        for _ in range(2):
            assert attributes(set_cookie(options, token)) == {"path": "/", "httponly": "", "samesite": "Lax"}
        set_cookie(DEFAULT, token)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "development" in caplog.text
    assert token not in caplog.text
    assert session_cookie(scope(NAME + b"=t"), options) is None


async def test_a_browser_forgets_what_is_deleted() -> None:
    """S-31: a jar that knows paths and Secure holds one cookie after log-in and rotation, and none after log-out."""
    for options in (
        DEFAULT,
        CookieOptions(name="__Secure-s", path="/", domain="app.test"),
        CookieOptions(name="s", max_age=60),
    ):
        async with running(cookie=options) as site:
            jar: CookieJar = site.browser.cookies.jar
            await site.log_in()
            (first,) = jar
            assert (first.name, first.secure, first.path) == (options.name, True, "/")
            assert first.has_nonstandard_attr("HttpOnly")
            await site.browser.post("/rotate")
            (second,) = jar
            assert (second.name, second.value != first.value) == (options.name, True)
            await site.browser.post("/log-out")
            assert list(jar) == []
