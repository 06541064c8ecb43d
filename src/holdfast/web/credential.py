"""Which credential a request presents: one of two, and never the second because the first is bad."""

import logging
from typing import Final, Literal, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import Scope

from holdfast.web.bearer import bearer_of
from holdfast.web.cookies import AMBIGUOUS, CookieOptions, session_cookie

log = logging.getLogger("holdfast.web")

Way = Literal["bearer", "cookie"]
"""How a credential travels: in the `Authorization` header, which only programs set, or in a cookie."""


class Credential(NamedTuple):
    """What a request presents as its session's token."""

    way: Way | None
    """`None` when it presents nothing."""
    token: str | None
    """The text to ask the manager about; `None` when what is there cannot be a token."""


NOTHING: Final = Credential(None, None)


def credential_of(scope: Scope, cookie: CookieOptions | None, *, bearer: bool = True) -> Credential:
    """The credential of a request or a handshake, from the ways that are switched on.

    An `Authorization` header decides whenever it is there, whatever its scheme. A token anywhere else, in the query
    or in a form, is not seen at all.
    """
    if bearer and any(name == b"authorization" for name, _ in scope["headers"]):
        return Credential("bearer", bearer_of(HTTPConnection(scope)))
    found = None if cookie is None else session_cookie(scope, cookie)
    if found is None:
        return NOTHING
    if found is AMBIGUOUS:
        log.info("a session cookie was not accepted: it is there twice, or under a name or with a value it cannot have")
        return Credential("cookie", None)
    return Credential("cookie", found)
