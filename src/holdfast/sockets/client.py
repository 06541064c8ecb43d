"""The JavaScript client as a file that an application serves: `client.js`, beside this module.

    app.router.routes.append(client_route())        # FastAPI and Starlette
    Mount("/chat", routes=[client_route()])         # under a prefix, then it is /chat/holdfast/client.js

It is one module without imports, so `script-src 'self'` is all that a Content-Security-Policy has to allow.
"""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CLIENT_PATH: Final = "/holdfast/client.js"

_MEDIA_TYPE: Final = "text/javascript"
"""The one that RFC 9239 registers; browsers refuse a module under any type that is not JavaScript."""


def client_route(path: str = CLIENT_PATH) -> Route:
    """A route that serves the client, to GET and HEAD. It needs no session and asks no store.

    Browsers keep the file and ask before each use whether it is still the same, so that after an upgrade of the
    package no page runs the old one; the answer to that question has no body (RFC 9110, 13.1.2).
    """
    return Route(path, _serve, methods=["GET"], include_in_schema=False)


@cache
def client_source() -> bytes:
    """The text of the client, for applications that put it into a bundle or behind a server of their own."""
    return (files("holdfast.sockets") / "client.js").read_bytes()


@cache
def _tag() -> str:
    return f'"{sha256(client_source()).hexdigest()[:32]}"'


async def _serve(request: Request) -> Response:
    headers = {
        "ETag": _tag(),
        "Cache-Control": "public, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if _has_it(request):
        return Response(status_code=304, headers=headers)
    return Response(client_source(), media_type=_MEDIA_TYPE, headers=headers)


def _has_it(request: Request) -> bool:
    """Whether one of the tags that the client names is ours; weak ones count too (RFC 9110, 13.1.2)."""
    named = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(each.strip().removeprefix("W/") in (_tag(), "*") for each in named)
