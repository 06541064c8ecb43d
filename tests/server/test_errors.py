"""What a client learns when something fails: a code, a sentence, and where to look."""

import io
from collections.abc import Callable

import pytest

from holdfast.sessions.errors import (
    AuthorityMoved,
    OutcomeUnknown,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
    TooManySessions,
)
from tests.api.api import APPLICATION, OPERATOR, Api

SECRET = "SELECT digest FROM sessions; postgresql://u:hunter2@db/x"
FAILURES = [
    (StoreUnavailable(SECRET), 503, "unavailable"),
    (Overloaded(SECRET), 503, "overloaded"),
    (AuthorityMoved(SECRET), 503, "moved"),
    (OutcomeUnknown(SECRET), 503, "outcome_unknown"),
    (StoreRefused(SECRET), 500, "store_refused"),
    (RuntimeError(SECRET), 500, "internal"),
    (RecursionError(SECRET), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), FAILURES, ids=lambda value: type(value).__name__)
async def test_a_failure_says_nothing_of_the_inside(
    api: Api, error: Exception, status: int, code: str, written: Callable[[bool], io.StringIO]
) -> None:
    """S-71: a 5xx has a code and the correlation id, and no SQL, address or stack; the log has the rest."""
    log = written(False)
    calls = [
        ("create", "POST", "sessions", APPLICATION, {}),
        ("touch", "POST", "sessions/validate", APPLICATION, {"token": (await api.create())["token"]}),
        ("list_live", "GET", "sessions", OPERATOR, None),
        ("count_live", "GET", "stats", OPERATOR, None),
        ("erase_user", "DELETE", "users/u1", OPERATOR, None),
    ]
    for method, verb, path, credential, body in calls:
        api.store.fail(method, error=error)
        response = await api.ask(verb, path, credential, json=body, headers={"X-Correlation-ID": "c-1"})
        assert response.status_code == status
        answer = response.json()
        assert (answer["error"], answer["correlation_id"]) == (code, "c-1")
        assert response.headers["x-correlation-id"] == "c-1"
        assert ("retry-after" in response.headers) is (status == 503)
        assert response.headers["x-content-type-options"] == "nosniff"
        for hidden in ("SELECT", "hunter2", "Traceback", "Error", "holdfast/"):
            assert hidden not in response.text
    assert log.getvalue().count("[c-1]") >= len(calls)


@pytest.mark.parametrize("error", [StoreUnavailable("x"), OutcomeUnknown("x"), Overloaded("x"), RuntimeError("x")])
async def test_an_unreachable_store_never_means_valid(api: Api, error: Exception) -> None:
    """S-72: while the store does not answer, no route answers with success, and none with "not valid" either."""
    created = await api.create()
    calls = [
        ("touch", "POST", "sessions/validate", APPLICATION, {"token": created["token"]}),
        ("get", "GET", "sessions/current", created["token"], None),
        ("rotate", "POST", "sessions/current/rotate", created["token"], None),
        ("end", "DELETE", "sessions/current", created["token"], None),
        ("create_ticket", "POST", "sessions/current/ticket", created["token"], None),
        ("get", "GET", f"sessions/{created['id']}", OPERATOR, None),
        ("end", "DELETE", f"sessions/{created['id']}", OPERATOR, None),
    ]
    for method, verb, path, credential, body in calls:
        api.store.fail(method, error=error)
        response = await api.ask(verb, path, credential, json=body)
        assert response.status_code >= 500, (path, response.text)
    assert (await api.ask("GET", "sessions/current", created["token"])).status_code == 200


async def test_the_cap_of_a_user_is_a_conflict(api: Api) -> None:
    """A refused create because of the cap is a 409: repeating does not help."""
    api.store.fail("create", error=TooManySessions("u1 has 5"))
    response = await api.ask("POST", "sessions", APPLICATION, json={"user_id": "u1"})
    assert (response.status_code, response.json()["error"]) == (409, "too_many_sessions")


async def test_unknown_paths_and_methods_have_the_same_form(api: Api) -> None:
    """S-71: also what no route answers is a code and a sentence."""
    for method, path, status, code in (
        ("GET", "http://holdfast.test/nothing", 404, "not_found"),
        ("POST", "http://holdfast.test/healthz", 405, "method_not_allowed"),
        ("GET", "http://holdfast.test/docs/../settings", 404, "not_found"),
        ("GET", "http://holdfast.test/docs/index.html", 404, "not_found"),
    ):
        response = await api.ask(method, path)
        assert (response.status_code, response.json()["error"]) == (status, code)
        assert set(response.json()) == {"error", "message"}


@pytest.mark.parametrize(
    "given", ["has space", "x" * 65, "", "a\x1bb", "-x", "ключ", "hfs_" + "a" * 43 + "00000000", 'a"b', "a;b"]
)
async def test_a_harmful_correlation_id_is_replaced(api: Api, given: str) -> None:
    """S-57, S-10: an id that could break a line, or is a token, is not taken over."""
    headers = [(b"X-Correlation-ID", given.encode())]
    response = await api.client.get("http://holdfast.test/healthz", headers=headers)
    assert len(response.headers["x-correlation-id"]) == 32
    assert response.headers["x-correlation-id"] != given


async def test_a_correlation_id_is_on_every_answer(api: Api) -> None:
    """S-71: a good one is taken over, a missing one is made, on success and on failure alike."""
    seen = set()
    for path in ("healthz", "readyz", "metrics", "docs", "nothing", "api/v1/stats"):
        url = f"http://holdfast.test/{path}"
        given = await api.ask("GET", url, headers={"X-Correlation-ID": "Order.42-a_b"})
        assert given.headers["x-correlation-id"] == "Order.42-a_b"
        seen.add((await api.ask("GET", url)).headers["x-correlation-id"])
    assert len(seen) == 6


async def test_every_answer_has_the_security_headers(api: Api) -> None:
    """Every answer forbids guessing its type, running anything from it, and telling where it was."""
    for path in ("healthz", "metrics", "nothing", "api/v1/stats"):
        headers = (await api.ask("GET", f"http://holdfast.test/{path}")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
