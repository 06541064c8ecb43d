"""The visitor and its session as FastAPI dependencies. For WebSockets there is `holdfast.sockets.socket_session`.

    @app.get("/me")
    async def me(session: Annotated[Session, Depends(current_session)]) -> dict[str, str | None]: …

They need `HoldfastMiddleware` around the application. The interactive documentation offers both ways to log in.
"""

from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.openapi.models import SecurityBase as SecurityModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from holdfast.sessions.session import Session
from holdfast.web.cookies import DEFAULT_NAME
from holdfast.web.errors import NoSession
from holdfast.web.visitor import Visitor


class DescribedScheme(SecurityBase):
    """A way to present a session, for OpenAPI alone: what a request presents is read by its visitor."""

    def __init__(self, name: str, model: SecurityModel) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self, _: HTTPConnection) -> None:
        """Decide nothing."""


def cookie_scheme(name: str) -> DescribedScheme:
    """The session cookie of a name, as OpenAPI sees it."""
    described = {"in": APIKeyIn.cookie, "name": name, "description": "The session cookie, as log-in set it."}
    return DescribedScheme("SessionCookie", APIKey.model_validate(described))


# The name that the middleware's cookie has unless it is told another. Nothing but the documentation says it.
COOKIE_SCHEME: Final = cookie_scheme(DEFAULT_NAME)
BEARER_SCHEME: Final = DescribedScheme(
    "SessionToken", HTTPBearer(description="The token of a session, as log-in and rotation answered it.")
)


async def visitor(
    connection: HTTPConnection,
    _cookie: Annotated[None, Security(COOKIE_SCHEME)],
    _bearer: Annotated[None, Security(BEARER_SCHEME)],
) -> Visitor:
    """Who is asking. Costs no call of the store."""
    return Visitor.of(connection)


async def optional_session(asking: Annotated[Visitor, Depends(visitor)]) -> Session | None:
    """The live session of the request, its activity recorded; `None` for a visitor without one."""
    return await asking.session()


async def current_session(session: Annotated[Session | None, Depends(optional_session)]) -> Session:
    """The live session of the request. Raises `NoSession`, answered with the one 401, for a visitor without one."""
    if session is None:
        raise NoSession("the request has no live session")
    return session
