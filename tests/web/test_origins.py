"""Whose pages may act with the cookie: the list, and what the browser's headers may be."""

from typing import Any

import pytest

from holdfast import InvalidArgument
from holdfast.web.cookies import DEFAULT_NAME
from holdfast.web.origins import Origins
from tests.web.serving import ask, listening
from tests.web.site import running

LISTED = "https://pages.test"
ALLOWED = Origins([LISTED, "http://localhost:8000"])

# The header lines of an unsafe request, and whether it may act with its cookie.
MATRIX: dict[str, tuple[list[str], bool]] = {
    "neither header": ([], False),
    "this very origin": (["Sec-Fetch-Site: same-origin"], True),
    "the user's own hand": (["Sec-Fetch-Site: none"], True),
    "this very origin, with any Origin": (["Sec-Fetch-Site: same-origin", "Origin: https://app.test"], True),
    "this very origin, which hides it": (["Sec-Fetch-Site: same-origin", "Origin: null"], True),
    "the same site": (["Sec-Fetch-Site: same-site"], False),
    "another site": (["Sec-Fetch-Site: cross-site"], False),
    "another site, not listed": (["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"], False),
    "another site, listed": (["Sec-Fetch-Site: cross-site", f"Origin: {LISTED}"], True),
    "the same site, listed": (["Sec-Fetch-Site: same-site", f"Origin: {LISTED}"], True),
    "the same site, hidden": (["Sec-Fetch-Site: same-site", "Origin: null"], False),
    "a value that nobody knows": (["Sec-Fetch-Site: own-site"], False),
    "a value in upper case": (["Sec-Fetch-Site: Same-Origin"], False),
    "two values in one": (["Sec-Fetch-Site: same-origin, cross-site"], False),
    "an empty value": (["Sec-Fetch-Site:"], False),
    "two lines": (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"], False),
    "two lines that differ": (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"], False),
    "two lines and a listed Origin": (["Sec-Fetch-Site: none", "Sec-Fetch-Site: none", f"Origin: {LISTED}"], False),
    "two Origins": ([f"Origin: {LISTED}", f"Origin: {LISTED}"], False),
    "two Origins of this very origin": (["Sec-Fetch-Site: same-origin", f"Origin: {LISTED}", "Origin: null"], False),
    "only a listed Origin": ([f"Origin: {LISTED}"], True),
    "only the other listed Origin": (["Origin: http://localhost:8000"], True),
    "the Host as Origin": (["Origin: https://app.test"], False),
    "a forged Host that is listed": ([f"X-Forwarded-Host: {LISTED[8:]}", "Origin: https://app.test"], False),
    "a Referer is not looked at": ([f"Referer: {LISTED}/page"], False),
}
# Origins that are not on the list, however near.
NEAR = [
    "null",
    "http://pages.test",
    "https://pages.test:443",
    "https://pages.test:8443",
    "https://pages.test.",
    "https://pages.test/",
    "https://PAGES.test",
    "HTTPS://pages.test",
    "https://pages.test.evil.test",
    "https://evilpages.test",
    "https://evil.test#https://pages.test",
    "https://pages.test@evil.test",
    "https://sub.pages.test",
    "https://pages.test https://pages.test",
    "https://pages.test, https://evil.test",
    "https://pages.test\x85",
    "https://pages.test\xa0",
    "wss://pages.test",
    "pages.test",
    "*",
    "",
]


def scope(*lines: str) -> dict[str, Any]:
    """A request with these header lines."""
    pairs = (line.partition(":") for line in lines)
    return {
        "type": "http",
        "headers": [(name.lower().encode(), value.strip(" ").encode("latin-1")) for name, _, value in pairs],
    }


@pytest.mark.parametrize(("lines", "permitted"), MATRIX.values(), ids=MATRIX)
def test_who_may_act_with_a_cookie(lines: list[str], permitted: bool) -> None:
    """S-33: Fetch-Metadata first, one listed Origin where that does not decide, and refusal without either."""
    assert ALLOWED.permits_unsafe(scope(*lines)) is permitted


@pytest.mark.parametrize("origin", NEAR)
def test_near_is_not_on_the_list(origin: str) -> None:
    """S-33, S-37: compared byte for byte, for requests and handshakes, whatever authenticates."""
    line = f"Origin: {origin}"
    assert not ALLOWED.permits_unsafe(scope(line))
    assert not ALLOWED.permits_unsafe(scope(line, "Sec-Fetch-Site: cross-site"))
    assert not ALLOWED.permits_handshake(scope(line), cookie=True)
    assert not ALLOWED.permits_handshake(scope(line), cookie=False)


def test_a_handshake_needs_the_list() -> None:
    """S-37: with a cookie one listed Origin and nothing else; without one an Origin may be missing, not wrong."""
    for lines, by_cookie, otherwise in (
        ([], False, True),
        ([f"Origin: {LISTED}"], True, True),
        ([f"Origin: {LISTED}", f"Origin: {LISTED}"], False, False),
        (["Origin: null"], False, False),
        (["Sec-Fetch-Site: same-origin"], False, True),
        (["Sec-Fetch-Site: same-origin", "Origin: https://app.test"], False, False),
    ):
        assert ALLOWED.permits_handshake(scope(*lines), cookie=True) is by_cookie
        assert ALLOWED.permits_handshake(scope(*lines), cookie=False) is otherwise
    assert not Origins().permits_handshake(scope(f"Origin: {LISTED}"), cookie=True)


def test_a_log_in_is_refused_when_it_names_another_origin() -> None:
    """S-33: a page elsewhere cannot log its visitor in; a program that names nothing can log itself in."""
    for lines, permitted in MATRIX.values():
        names_nothing = not any(line.startswith(("Origin", "Sec-Fetch-Site")) for line in lines)
        assert ALLOWED.permits_log_in(scope(*lines)) is (permitted or names_nothing)


async def test_the_matrix_over_a_real_port() -> None:
    """S-33: each unsafe method is judged the same, safe ones and bearers pass whatever they carry."""
    async with running(origins=ALLOWED) as site, listening(site.app) as port:
        token = (await site.manager.create_session("u1")).token.encode()
        cookie = b"Cookie: " + DEFAULT_NAME.encode() + b"=" + token
        bearer = b"Authorization: Bearer " + token
        for what, (lines, permitted) in MATRIX.items():
            headers = [line.encode() for line in lines]
            for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT-LIKE"):
                status = (await ask(port, method, "/me", cookie, *headers)).status
                assert (status == 403) is not permitted, (what, method)
            for method in ("GET", "HEAD"):
                assert (await ask(port, method, "/me", cookie, *headers)).status == 200, what
            assert (await ask(port, "OPTIONS", "/me", cookie, *headers)).status == 405, what
            for more in ([], [cookie]):
                assert (await ask(port, "POST", "/me", bearer, *more, *headers)).status == 200, what
            # Without a credential there is nothing to misuse.
            assert (await ask(port, "POST", "/plain", *headers)).status == 200, what


async def test_a_cookie_that_is_ambiguous_is_judged_too() -> None:
    """S-30, S-33: one that cannot be read still comes from a browser."""
    async with running() as site, listening(site.app) as port:
        cookie = f"Cookie: ={DEFAULT_NAME}=x".encode()
        assert (await ask(port, "POST", "/plain", cookie)).status == 403
        assert (await ask(port, "POST", "/plain", cookie, b"Sec-Fetch-Site: same-origin")).status == 200


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("https://example.com/", "'https://example.com'"),
        ("https://example.com/path?x#y", "'https://example.com'"),
        ("https://Example.com", "'https://example.com'"),
        ("HTTPS://example.com", "'https://example.com'"),
        ("https://example.com:443", "'https://example.com'"),
        ("http://example.com:80", "'http://example.com'"),
        ("http://example.com:080", "'http://example.com'"),
        ("https://example.com:08443", "'https://example.com:8443'"),
        ("https://example.com.", "'https://example.com'"),
        ("wss://example.com", "'https://example.com'"),
        ("ws://localhost:8000", "'http://localhost:8000'"),
        ("http://[0:0::1]:8000", r"'http://\[::1\]:8000'"),
        ("https://[2001:DB8::1]", r"'https://\[2001:db8::1\]'"),
        ("*", "one by one"),
        ("null", "sandboxed"),
        ("https://*.example.com", "scheme, host and port"),
        ("example.com", "scheme, host and port"),
        ("example.com:443", "scheme, host and port"),
        ("//example.com", "scheme, host and port"),
        ("https://", "scheme, host and port"),
        ("https://user@example.com", "scheme, host and port"),
        ("https://example.com:99999", "scheme, host and port"),
        ("https://exa mple.com", "scheme, host and port"),
        ("https://example.com\n", "scheme, host and port"),
        ("https://[::g]", "scheme, host and port"),
        ("https://-example.com", "scheme, host and port"),
        ("", "scheme, host and port"),
        ("https://b\u00fccher.example", "location.origin"),
        (b"https://example.com", "string"),
        (None, "string"),
    ],
)
def test_a_spelling_that_no_browser_sends_is_refused(origin: Any, says: str) -> None:
    """S-37: nothing is put right in silence; the error says what to write."""
    with pytest.raises(InvalidArgument, match=says):
        Origins([origin])


@pytest.mark.parametrize("allowed", ["https://example.com", b"https://example.com"])
def test_one_string_is_no_list(allowed: Any) -> None:
    """Its characters would be taken for origins."""
    with pytest.raises(InvalidArgument, match="list"):
        Origins(allowed)


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://[::1]:8000",
        "https://xn--bcher-kva.example",
        "https://under_score.example",
        "chrome-extension://abcdefghijklmnop",
        "capacitor://localhost",
    ],
)
def test_what_browsers_send_is_taken(origin: str) -> None:
    """And shown in the list's text form."""
    origins = Origins([origin])
    assert origins.allowed == {origin}
    assert origin in repr(origins)
    assert origins.permits_unsafe(scope(f"Origin: {origin}"))
