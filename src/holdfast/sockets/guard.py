"""The socket guard: an application's WebSockets live exactly as long as the sessions that opened them.

    guard = SocketGuard(manager, GuardOptions(origins=Origins(["https://example.com"])))
    app = HoldfastMiddleware(app, manager, sockets=guard)        # FastAPI and Starlette, with `socket_session`
    app.mount("/live", guard(live))                              # any ASGI application: every socket of it is guarded

It must be used from the event loop that the manager was opened in.
"""

import logging
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sockets.connection import abort_of
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.guarded_socket import SOCKET_KEY, GuardedSocket, SocketClosed
from holdfast.sockets.handshake import HandshakeRefused
from holdfast.sockets.registry import SocketObserver, Sockets, Unobserved
from holdfast.sockets.wire import Wire
from holdfast.web.closing import DONE, closing_of_error

log = logging.getLogger("holdfast.sockets")

DRAIN_SECONDS: Final = 5.0


class SocketGuard:
    """The guard of one process's sockets, over one manager."""

    def __init__(
        self, manager: SessionManager, options: GuardOptions | None = None, observer: SocketObserver | None = None
    ) -> None:
        """Prepare it; the manager need not be open yet.

        Args:
            manager: whose sessions open sockets.
            options: which credentials do, and what a socket may cost.
            observer: counts refused handshakes and closed sockets.
        """
        self.options = options or GuardOptions()
        self._manager = manager
        self._observer = observer or Unobserved()
        self._sockets = Sockets(self.options)
        self._said_helpless = False

    @property
    def open_sockets(self) -> int:
        """How many guarded sockets this process has."""
        return self._sockets.open

    def allow_at_most(self, sockets: int) -> None:
        """Have no more sockets than that, whatever the options say: the operating system's limits may be lower."""
        self._sockets.most = min(self._sockets.most, sockets)

    def __call__(self, app: ASGIApp) -> "GuardedApp":
        """An ASGI application whose every socket is guarded, and accepted only with a live session."""
        return GuardedApp(self, app)

    def wrap(self, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """A `receive` and a `send` that guard a socket from its admission on; put in place of the server's own.

        The socket is in `scope["holdfast.socket"]`. Whoever calls this also calls its `finish` when the application
        is done: `run` does both.
        """
        if not self._said_helpless and abort_of(scope, send) is None:
            self._said_helpless = True
            log.warning(
                "this server, or a middleware around its `send`, gives no way to drop a connection: a client that does "
                "not read can keep one, and what was buffered for it"
            )
        wire = Wire(scope, receive, send)
        scope[SOCKET_KEY] = socket = GuardedSocket(self._manager, self.options, self._sockets, self._observer, wire)
        return socket.receive, socket.send

    def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run an application on a socket that it may admit itself; for middleware. Await what this gives.

        A socket that the application leaves open is closed: with 1000, or with 1011 when the application failed.
        """
        return GuardedApp(self, app, admit=False)(scope, receive, send)

    async def drain(self, window: float = DRAIN_SECONDS) -> None:
        """Refuse new sockets from now on, and close those there are with 1012 in random order over so many seconds.

        Call it when the process is asked to stop, before the server is: see docs/how-to/drain.md. It returns when all
        are closed, five seconds after the window at the latest. With a window of 0 all close at once.
        """
        await self._sockets.drain(window)


class GuardedApp:
    """An ASGI application behind a guard. Calls that are no WebSockets pass through."""

    __slots__ = ("_admit", "_app", "_guard")

    def __init__(self, guard: SocketGuard, app: ASGIApp, *, admit: bool = True) -> None:
        """Made by calling the guard. `admit`: before the application is called, or when it says so itself."""
        self._guard = guard
        self._app = app
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call. All in one coroutine: it is there for as long as the socket is."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        receive, send = self._guard.wrap(scope, receive, send)
        socket: GuardedSocket = scope[SOCKET_KEY]
        closing = DONE
        try:
            if self._admit:
                await socket.admit()
            await self._app(scope, receive, send)
        except (HandshakeRefused, SocketClosed, WebSocketDisconnect):
            # How an application ends that does not look out for the close: it has ended all the same.
            if socket.session is None and socket.closing is None:
                raise
        except StoreUnavailable as error:
            if socket.session is None:
                raise
            log.warning("a socket was closed, because its application could not ask the store: %s", error)
            closing = closing_of_error(error)
        except Exception as error:
            await socket.finish(closing_of_error(error))
            raise
        except BaseException:
            # Cancelled by the server, which closes the connection itself.
            socket.forget()
            raise
        await socket.finish(closing)
