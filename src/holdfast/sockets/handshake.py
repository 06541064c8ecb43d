"""The opening of a guarded socket: whose it is, and whether it may be, before anything is accepted.

Exactly one credential decides, the most deliberate one that the handshake shows: a token in the path where that is
allowed, else a ticket in the query, else the `Authorization` header, else the cookie. A bad one is refused, and no
other is looked at then. Every refusal of a credential is the same 401.
"""

import logging
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, unquote_plus

from starlette.exceptions import WebSocketException
from starlette.responses import JSONResponse
from starlette.types import Message, Scope

from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.ids import parse_id
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import Session
from holdfast.sessions.tokens import SECRET_PATTERN
from holdfast.sockets.guard_options import GuardOptions
from holdfast.web.closing import (
    EVICTED,
    EXPIRED,
    FORBIDDEN,
    IDLE,
    OVERLOADED,
    RESTART,
    REVOKED,
    TOO_MANY,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Closing,
    closing_of_error,
)
from holdfast.web.credential import credential_of
from holdfast.web.responses import NO_STORE, RETRY_AFTER_SECONDS, Refusal, correlation_id, unauthenticated

log = logging.getLogger("holdfast.sockets")

TICKET_PARAMETER: Final = "ticket"
HIDDEN: Final = "hidden"
"""What stands in a scope where a secret stood, once it has been read."""

_MAX_PARAMETERS: Final = 100
_SECRET: Final = re.compile(SECRET_PATTERN)
_RETRY_AFTER: Final = {"Retry-After": str(RETRY_AFTER_SECONDS)}
_REFUSALS: Final[dict[Closing, Refusal]] = {
    **dict.fromkeys((UNAUTHENTICATED, EXPIRED, IDLE, REVOKED, EVICTED), unauthenticated()),
    FORBIDDEN: Refusal(403, "forbidden", "this socket is not for this page or this session"),
    TOO_MANY: Refusal(429, "too_many_sockets", "there are too many sockets already", _RETRY_AFTER),
    OVERLOADED: Refusal(503, "overloaded", "this server has all the sockets it may; try again", _RETRY_AFTER),
    UNAVAILABLE: Refusal(503, "unavailable", "the session store cannot be reached; try again", _RETRY_AFTER),
    RESTART: Refusal(503, "restarting", "this server is stopping; try again", _RETRY_AFTER),
}
_FAULT: Final = Refusal(500, "internal", "something went wrong on the server")

Way = Literal["path", "ticket", "bearer", "cookie"]


class HandshakeRefused(WebSocketException):
    """A handshake was refused, and the client has been told. Frameworks close the socket on it, which is no more."""

    def __init__(self, closing: Closing) -> None:
        """Say why."""
        super().__init__(closing.code, closing.reason)
        self.closing = closing


class Presented(NamedTuple):
    """The credential that a handshake shows."""

    way: Way
    secret: str | None
    """`None` when what is there cannot be one."""


async def session_of(scope: Scope, manager: SessionManager, options: GuardOptions) -> Session:
    """The live session that a handshake opens. Raises `HandshakeRefused`.

    A token is validated, which counts as an activity; a ticket is used up, which does not.
    """
    in_path = scope.get("path_params", {}).get(options.id_parameter)
    presented = _presented(scope, options, None if in_path is None else str(in_path))
    # First, whatever is presented: another origin's page must not learn whether the visitor has a cookie.
    if not options.origins.permits_handshake(scope, cookie=presented is not None and presented.way == "cookie"):
        raise HandshakeRefused(FORBIDDEN)
    if presented is None or presented.secret is None:
        raise HandshakeRefused(UNAUTHENTICATED)
    try:
        session = await _opened(scope, manager, presented.way, presented.secret)
    except StoreUnavailable as error:
        log.info("a handshake was refused, because the store did not answer: %s", error)
        raise HandshakeRefused(closing_of_error(error)) from error
    except Exception as error:
        log.exception("a handshake was refused, because its credential could not be checked")
        raise HandshakeRefused(closing_of_error(error)) from error
    if session is None:
        raise HandshakeRefused(UNAUTHENTICATED)
    if in_path is not None and presented.way != "path" and str(in_path).lower() != session.id:
        raise HandshakeRefused(FORBIDDEN)
    return session


def hide_secrets(scope: Scope, options: GuardOptions) -> None:
    """Take tickets and tokens out of the address in a scope, so that nobody logs them afterwards.

    In place: uvicorn writes its own scope's address to its log when a socket is accepted or refused. Subprotocols that
    hold a secret go too: a client that finds one accepted has sent it for that.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    shown = _shown(_SECRET, "&".join(part for part in query.split("&") if not _is_ticket(part)), "&")
    if shown != query:
        scope["query_string"] = shown.encode("latin-1")
    secrets = [_SECRET]
    if options.allow_token_in_url:
        in_path = str(scope.get("path_params", {}).get(options.id_parameter, ""))
        if in_path and parse_id(in_path) is None:
            secrets.append(re.compile(re.escape(in_path)))
    for pattern in secrets:
        # Nothing is made anew where there is nothing to hide: a scope lasts as long as its socket.
        if pattern.search(unquote(scope["path"])):
            scope["path"] = _shown(pattern, scope["path"], "/")
            if scope.get("raw_path") is not None:
                scope["raw_path"] = _shown(pattern, scope["raw_path"].decode("latin-1"), "/").encode("latin-1")
    if scope.get("subprotocols"):
        scope["subprotocols"] = harmless(scope["subprotocols"])


def _shown(pattern: re.Pattern[str], text: str, separator: str) -> str:
    """A part of an address without what matches, percent-encoded or not. Parts without a secret stay as they are."""
    return separator.join(
        quote(pattern.sub(HIDDEN, plain), safe="=") if pattern.search(plain := unquote(part)) else part
        for part in pattern.sub(HIDDEN, text).split(separator)
    )


def harmless(subprotocols: Sequence[str]) -> list[str]:
    """Those that hold nothing like a token."""
    return [each for each in subprotocols if _SECRET.search(each) is None]


def harmless_acceptance(message: Message) -> Message:
    """The application's acceptance, without a subprotocol that echoes a token (Kubernetes clients send one there)."""
    subprotocol = message.get("subprotocol")
    headers = [
        (name, value)
        for name, value in message.get("headers") or ()
        if name.lower() != b"sec-websocket-protocol" or harmless([value.decode("latin-1")])
    ]
    kept = None if subprotocol is None else next(iter(harmless([subprotocol])), None)
    return {**message, "subprotocol": kept, "headers": headers}


def denial(scope: Scope, closing: Closing) -> JSONResponse:
    """The HTTP answer to a refused handshake, of the same form as every other error's."""
    refusal = _REFUSALS.get(closing, _FAULT)
    body = {"error": refusal.code, "message": refusal.detail}
    if refusal.status_code >= 500:
        body["correlation_id"] = correlation_id(scope)
    return JSONResponse(body, refusal.status_code, {**NO_STORE, **(refusal.headers or {})})


def _presented(scope: Scope, options: GuardOptions, in_path: str | None) -> Presented | None:
    if options.allow_token_in_url and in_path is not None and parse_id(in_path) is None:
        return Presented("path", in_path)
    tickets = _tickets(scope)
    if tickets:
        return Presented("ticket", tickets[0] if len(tickets) == 1 else None)
    credential = credential_of(scope, options.cookie, bearer=options.bearer)
    return None if credential.way is None else Presented(credential.way, credential.token)


def _is_ticket(parameter: str) -> bool:
    return unquote_plus(parameter.partition("=")[0]) == TICKET_PARAMETER


def _tickets(scope: Scope) -> list[str]:
    """Every ticket in the query; two that are none when it cannot be read."""
    query = scope.get("query_string", b"").decode("latin-1")
    if TICKET_PARAMETER not in query:
        return []
    try:
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return ["", ""]
    return [value for name, value in parameters if name == TICKET_PARAMETER]


async def _opened(scope: Scope, manager: SessionManager, way: Way, secret: str) -> Session | None:
    if way == "ticket":
        return await manager.redeem_ticket(secret, _origin(scope))
    try:
        return await manager.validate_session(secret)
    except OutcomeUnknown:
        # Whether it was counted is not known, and never will be; whether it lives can be asked again.
        return await manager.get_session(secret)


def _origin(scope: Scope) -> str | None:
    """The handshake's one `Origin`; more than one has been refused by now."""
    for name, value in scope["headers"]:
        if name == b"origin":
            return str(value.decode("latin-1"))
    return None
