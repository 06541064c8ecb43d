"""What an error means to a client: one table from errors to answers, and the one way an answer is made.

Bodies are generic: `{"error": code, "message": sentence}`, with the correlation id from 500 up. Nothing that
the client sent is repeated but names of fields, and nothing that a store said is shown.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from holdfast.sessions.errors import (
    AuthorityMoved,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    StoreRefused,
    StoreUnavailable,
    TooManySessions,
)
from holdfast.web.closing import closing_of_error
from holdfast.web.errors import CrossSite, NoSession

log = logging.getLogger("holdfast.web")

NO_STORE: Final = {"Cache-Control": "no-store"}
RETRY_AFTER_SECONDS: Final = 1
ANSWERED: Final = (CrossSite, NoSession, StoreRefused, StoreUnavailable, TooManySessions)
"""What middleware answers in an application's place. Anything else is the application's fault, and its to answer."""


class Refusal(HTTPException):
    """The request is refused: a status, a code for programs and a sentence for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        """`code` and `message` go into the body as they are, so they hold nothing the client sent."""
        super().__init__(status, message, headers)
        self.code = code


def unauthenticated() -> Refusal:
    """The one 401: the same bytes for a missing, malformed, unknown, expired, revoked or wrong credential."""
    return Refusal(401, "unauthenticated", "a valid credential is required", {"WWW-Authenticate": "Bearer", **NO_STORE})


def cross_site() -> Refusal:
    """The one 403 for a request that another site's page made with the visitor's cookie, or may have made."""
    return Refusal(403, "cross_site", "only the application's own pages may do this with a cookie", NO_STORE)


def not_found() -> Refusal:
    """The one 404, also for what exists and belongs to someone else."""
    return Refusal(404, "not_found", "there is nothing here")


# First match wins, so the special comes before the general.
_TABLE: Final[tuple[tuple[type[Exception], int, str, str], ...]] = (
    (TooManySessions, 409, "too_many_sessions", "the user has as many live sessions as the cap allows"),
    (
        OutcomeUnknown,
        503,
        "outcome_unknown",
        "the write may or may not have happened; read before you repeat it",
    ),
    (Overloaded, 503, "overloaded", "too many calls are waiting; nothing was done, try again"),
    (AuthorityMoved, 503, "moved", "another store is taking over; nothing was done, try again"),
    (
        StoreUnavailable,
        503,
        "unavailable",
        "the session store cannot be reached; nothing was done, try again",
    ),
    (StoreRefused, 500, "store_refused", "the session store must not be used as it is; see the server's log"),
)
_HTTP_CODES: Final = {
    404: ("not_found", "there is nothing here"),
    405: ("method_not_allowed", "this method is not allowed here"),
    413: ("too_large", "the body is too large"),
}


def correlation_id(scope: Scope) -> str:
    """The id of this request in logs and answers; made now when no middleware has set one."""
    state = scope.setdefault("state", {})
    return str(state.setdefault("correlation_id", uuid4().hex))


def answer(content: Mapping[str, Any], status: int = 200) -> JSONResponse:
    """A JSON answer that no cache keeps: sessions and tokens are nobody else's."""
    return JSONResponse(dict(content), status, NO_STORE)


def error_answer(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to an error. Anything unknown is a 500 that says nothing but where to look."""
    if isinstance(error, NoSession | CrossSite):
        error = unauthenticated() if isinstance(error, NoSession) else cross_site()
    headers: dict[str, str] = {}
    if isinstance(error, InvalidArgument):
        status, code, message = 422, "invalid", str(error)
    elif isinstance(error, Refusal):
        status, code, message = error.status_code, error.code, error.detail
        headers.update(error.headers or {})
    elif isinstance(error, HTTPException):
        code, message = _HTTP_CODES.get(error.status_code, ("refused", "the request is refused"))
        status = error.status_code
        headers.update(error.headers or {})
    else:
        status, code, message = _server_error(error)
    body = {"error": code, "message": message}
    if status >= 500:
        body["correlation_id"] = correlation_id(scope)
        log.error("%s: %s", type(error).__name__, error, extra={"correlation_id": body["correlation_id"]})
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return JSONResponse(body, status, {**NO_STORE, **headers})


async def answer_instead(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a handshake in the application's place: nothing has been sent yet.

    Where the server cannot send an answer to a handshake it is closed instead, which its client sees as a 403.
    """
    answer = error_answer(scope, error)
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await answer(scope, receive, send)
    else:
        closing = closing_of_error(error)
        await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


def _server_error(error: Exception) -> tuple[int, str, str]:
    for kind, status, code, message in _TABLE:
        if isinstance(error, kind):
            return status, code, message
    return 500, "internal", "something went wrong on the server"
