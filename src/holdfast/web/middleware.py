"""The one piece to put around an application: it gives every request and every handshake its visitor."""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.sessions.manager import SessionManager
from holdfast.web.cookies import CookieOptions
from holdfast.web.origins import Origins
from holdfast.web.responses import ANSWERED, answer_instead
from holdfast.web.visitor import SCOPE_KEY, Visitor
from holdfast.web.visitor_options import VisitorOptions

_COOKIE: Final = CookieOptions()
_ORIGINS: Final = Origins()


class SocketRunner(Protocol):
    """Whoever guards WebSockets, as the middleware sees it: `SocketGuard`."""

    def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run an application on a socket, with a `receive` and a `send` that guard it once it is admitted."""


class HoldfastMiddleware:
    """ASGI middleware: sessions for HTTP and WebSockets, in any ASGI framework.

        app.add_middleware(HoldfastMiddleware, manager=sessions, origins=Origins(["https://app.example.com"]))

    It puts a `Visitor` into the scope, refuses what another site's page would do with the visitor's cookie, and
    answers the manager's errors as the HTTP interface does. It reads the body of no request and holds back no
    answer. A request whose session nobody asks for costs no call of the store.

    The application opens and closes the manager; see `session_lifespan`.
    """

    def __init__(
        self,
        app: ASGIApp,
        manager: SessionManager,
        *,
        cookie: CookieOptions | None = _COOKIE,
        bearer: bool = True,
        origins: Origins = _ORIGINS,
        clear_site_data: Sequence[str] = (),
        sockets: SocketRunner | None = None,
    ) -> None:
        """Put it around an application.

        Args:
            app: the application.
            manager: whose sessions they are.
            cookie: the session cookie; `None` when no session comes by cookie.
            bearer: whether `Authorization: Bearer` is read; `False` behind a proxy that uses that header itself.
            origins: whose pages may act with the cookie, and open WebSockets with it. For requests the browser
                vouches for the application's own pages over HTTPS; for WebSockets they have to be on the list.
            clear_site_data: what a browser forgets at log-out; see `VisitorOptions`.
            sockets: the guard of the WebSockets.
        """
        self._app = app
        self._manager = manager
        self._options = VisitorOptions(cookie=cookie, bearer=bearer, origins=origins, clear_site_data=clear_site_data)
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request or the handshake on with its visitor."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._handshake(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        visitor = scope[SCOPE_KEY] = Visitor(scope, self._manager, self._options)

        async def finished(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A list of our own: an answer may be a constant of the application.
                headers = list(message.get("headers", ()))
                visitor.finish(headers)
                message = {**message, "headers": headers}
            await send(message)

        try:
            visitor.check_request()
            try:
                await self._app(scope, receive, finished)
            finally:
                # Once the head of an answer is out there is nothing to take back.
                await visitor.take_back()
        except ANSWERED as error:
            if visitor.started:
                raise
            await answer_instead(error, scope, receive, finished)

    async def _handshake(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY] = Visitor(scope, self._manager, self._options)
        if self._sockets is None:
            await self._socket(scope, receive, send)
        else:
            await self._sockets.run(self._socket, scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ANSWERED as error:
            if answered:
                raise
            await answer_instead(error, scope, receive, send)
