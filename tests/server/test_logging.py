"""Log lines that hold no token, and that nobody but the server can write."""

import io
import json
import logging
from collections.abc import Callable
from uuid import uuid4

import pytest

from holdfast.server.logging import HIDDEN
from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.tokens import new_ticket, new_token
from tests.api.api import APPLICATION, OPERATOR, Api

Written = Callable[[bool], io.StringIO]
INJECTIONS = [
    "a\r\n2026-11-22 INFO forged",
    "\x1b[2J\x1b]0;x\x07",
    "\u202eabc\u2066",
    "a\u2028b\x85c\x9b31m",
    "\x00\x7f",
]
log = logging.getLogger("holdfast.test")


def old_token() -> str:
    """As old applications made them."""
    return f"session-{uuid4()}"


@pytest.mark.parametrize("json_lines", [False, True])
async def test_no_token_reaches_the_log(api: Api, written: Written, json_lines: bool) -> None:
    """S-10: at debug level, with failing stores, no token of any request is in any line."""
    lines = written(json_lines)
    canary = (await api.create())["token"]
    ticket = new_ticket()
    api.store.fail("touch", error=StoreUnavailable(f"while touching {canary}"))
    await api.ask("POST", "sessions/validate", APPLICATION, json={"token": canary})
    api.store.fail("get", error=RuntimeError(f"{canary} and {ticket}"))
    await api.ask("GET", "sessions/current", canary)
    for path in (f"sessions/{canary}", f"sessions/current?token={canary}", f"http://holdfast.test/{canary}"):
        await api.ask("GET", path, canary)
    await api.ask("POST", "sessions", APPLICATION, json={canary: canary})
    await api.ask("DELETE", f"users/{canary}/sessions", APPLICATION)
    await api.ask("GET", "sessions/current", canary, headers={"X-Correlation-ID": canary, "User-Agent": canary})
    text = lines.getvalue()
    assert "sessions" in text
    for secret in (canary, ticket, APPLICATION, OPERATOR, "hfs_", "hft_"):
        assert secret not in text


@pytest.mark.parametrize("make", [new_token, old_token], ids=["ours", "legacy"])
@pytest.mark.parametrize("json_lines", [False, True])
def test_a_token_is_hidden_wherever_it_stands(written: Written, json_lines: bool, make: Callable[[], str]) -> None:
    """S-10: in the message, its arguments, an exception and its causes, an extra field, and without a space around.

    Those of the legacy form too.
    """
    lines, token = written(json_lines), make()
    log.info("seen %s", token)
    log.info(f"x{token}y")  # noqa: G004 - some library does it
    log.info("extra", extra={"detail": {"token": token}, "other": token})
    try:
        try:
            raise ValueError(token)
        except ValueError as error:
            raise KeyError(token) from error
    except KeyError:
        log.exception("failed")
    text = lines.getvalue()
    assert token not in text
    assert text.count(HIDDEN) >= 4


@pytest.mark.parametrize("text", INJECTIONS)
def test_one_event_is_one_json_line(written: Written, text: str) -> None:
    """S-57: whatever is in it, an event is one line of JSON without a control character."""
    lines = written(True)
    log.info("seen %s", text, extra={"user_agent": text})
    log.warning(text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    written_lines = lines.getvalue().splitlines()
    assert len(written_lines) == 3
    for line in written_lines:
        event = json.loads(line)
        assert event["logger"] == "holdfast.test"
        assert line.isprintable()
        assert all(each.isprintable() for each in event["message"])


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_lines_hold_no_control_characters(written: Written, text: str) -> None:
    """S-57: a line of text cannot be broken or coloured from outside; what follows it is indented."""
    lines = written(False)
    log.info("seen %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    first, second, *rest = lines.getvalue().split("\n")
    assert first.isprintable()
    assert second.endswith("failed [-]")
    assert all(line == "" or (line.startswith("    ") and line.isprintable()) for line in rest)


async def test_an_access_line_names_the_template(api: Api, written: Written) -> None:
    """S-10, S-11, S-57: a request is one line: method, template, status, time, correlation id, and nothing as sent."""
    lines = written(True)
    session_id = (await api.create("someone"))["id"]
    await api.ask("GET", f"sessions/{session_id}", OPERATOR, headers={"X-Correlation-ID": "c-9"})
    await api.ask("DELETE", "users/someone/sessions?keep=no", APPLICATION, headers={"X-Correlation-ID": "c-9"})
    await api.ask("GET", "http://holdfast.test/some/secret?x=secret", headers={"X-Correlation-ID": "c-9"})
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    seen = [event for event in events if event["logger"] == "holdfast.access" and event["correlation_id"] == "c-9"]
    assert [(event["method"], event["route"], event["status"]) for event in seen] == [
        ("GET", "/api/v1/sessions/{id}", 200),
        ("DELETE", "/api/v1/users/{user_id}/sessions", 422),
        ("GET", "unmatched", 404),
    ]
    assert all(event["ms"] >= 0 for event in seen)
    assert session_id not in json.dumps(seen)
    assert "secret" not in json.dumps(seen)
    assert "someone" not in json.dumps(seen)
