"""Running the application in a process: where it may listen, how it stops, and the development profile."""

import asyncio
import dataclasses
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.server.app import create_app
from holdfast.server.garbage import collect_seldom
from holdfast.server.handles import room_for_sockets
from holdfast.server.health import Readiness
from holdfast.server.logging import configure
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.settings import Settings
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.uvicorn_protocol import BoundedSocketProtocol

log = logging.getLogger("holdfast.server")

_BACKLOG: Final = 2048
# asyncio accepts at most so many connections in one turn. Where no file handle is left it tries as often, and logs each
# failure; with the backlog's number, which it would take, it served nobody for seconds meanwhile.
_ACCEPTED_AT_ONCE: Final = 32
_MAX_HEADER_BYTES: Final = 16 * 1024
_KEEP_ALIVE_SECONDS: Final = 5
_PING_SECONDS: Final = 20.0
_LOOK_FOR_SIGNALS: Final = 0.1
_UNACKNOWLEDGED_MILLISECONDS: Final = 60_000


class _Server(uvicorn.Server):
    """uvicorn's server, which ends gently: not ready first, then without sockets, then uvicorn's own shutdown.

    That one closes all sockets in one instant, and runs the application's shutdown only afterwards: too late to spread
    them.
    """

    def __init__(self, config: uvicorn.Config, delay: float, window: float) -> None:
        """`delay` and `window` are the seconds of the drain."""
        super().__init__(config)
        self._delay = delay
        self._window = window

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops gently; any second one, at once."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, with room for those who come at once."""
        await super().startup(sockets)
        for each in sockets or ():
            # The server beneath has one number for both.
            each.listen(_BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of the balancer, then of the sockets, then finish the requests under way."""
        log.info("stopping: finishing what is under way")
        state = self.config.app.state  # type: ignore[union-attr]  # always create_app's
        readiness: Readiness = state.readiness
        await readiness.stop()
        await self._drained(state.guards)
        await super().shutdown(sockets)
        if self.force_exit:
            # A second Ctrl-C. What is cut off now would be told to the log as one fault for each task.
            log.warning("stopped at once: what was under way has no answer")
            logging.getLogger("uvicorn.error").disabled = True

    async def _drained(self, guards: Sequence[SocketGuard]) -> None:
        async def drain() -> None:
            # Still accepting meanwhile: the balancer sends here until it has noticed.
            await asyncio.sleep(self._delay)
            await asyncio.gather(*(guard.drain(self._window) for guard in guards))

        draining = asyncio.create_task(drain(), name="holdfast-drain")
        while not (draining.done() or self.force_exit):
            await asyncio.wait((draining,), timeout=_LOOK_FOR_SIGNALS)
        draining.cancel()
        (outcome,) = await asyncio.gather(draining, return_exceptions=True)
        if isinstance(outcome, Exception):
            log.error("draining failed; what is left closes at once", exc_info=outcome)


def serve(settings: Settings, app: FastAPI | None = None, on_listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then close the sockets, finish the requests under way and return.

    `on_listening` is called once nobody else can have the address any more, before the first request.

    Raises `InvalidArgument` when it must not or cannot listen there, and `StoreRefused` when the store must
    not be used as it is. A store that cannot be reached is waited for.
    """
    check_exposure(settings)
    configure(settings.log_level, settings.json_logs)
    application = app or create_app(settings)
    listener = _listen(settings.host, settings.port)
    room = room_for_sockets(settings.max_sockets)
    for guard in application.state.guards:
        guard.allow_at_most(room)
    server = _Server(
        uvicorn.Config(
            application,
            http="h11",
            backlog=_ACCEPTED_AT_ONCE,
            ws=BoundedSocketProtocol,
            # Twice the limit: up to there the guard itself sees the message and says `too big`.
            ws_max_size=settings.max_message_bytes * 2,
            # Below the minute after which balancers usually cut a silent connection.
            ws_ping_interval=_PING_SECONDS,
            ws_ping_timeout=_PING_SECONDS,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            # Addresses are judged in one place, `web.limits`, by the networks in the settings.
            proxy_headers=False,
            server_header=False,
            date_header=True,
            limit_concurrency=settings.max_connections + settings.max_sockets,
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.graceful_seconds,
        ),
        settings.drain_delay_seconds,
        settings.drain_seconds,
    )
    refusals: list[StoreRefused] = []

    def end_process(refusal: StoreRefused) -> None:
        refusals.append(refusal)
        server.should_exit = True

    readiness: Readiness = application.state.readiness
    readiness.on_refused = end_process
    # uvicorn raises the signal again once it has stopped; the default handler would make that a violent end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    host, port = listener.getsockname()[:2]
    on_listening()
    collect_seldom()
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    with listener, suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    log.info("stopped")
    if refusals:
        raise refusals[0]


def check_exposure(settings: Settings) -> None:
    """Refuse to be reachable from elsewhere without credentials. Raises `InvalidArgument`."""
    missing = [
        name
        for name, value in (
            ("HOLDFAST_APP_TOKEN", settings.application_credentials),
            ("HOLDFAST_ADMIN_TOKEN", settings.operator_credentials),
        )
        if not value
    ]
    if missing and not _is_loopback(settings.host):
        raise InvalidArgument(
            f"{settings.host} can be reached from other machines, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; set {'it' if len(missing) == 1 else 'them'}, "
            "or listen on 127.0.0.1"
        )


def for_development(settings: Settings) -> tuple[Settings, dict[str, str]]:
    """Settings for one's own machine, and the credentials made for it, by the name of their variable.

    The session cookie works over plain HTTP, and for pages that come from the address that is listened on.

    Raises `InvalidArgument` for a host that other machines can reach.
    """
    if not _is_loopback(settings.host):
        raise InvalidArgument("the development profile listens on loopback only; leave out --dev, or the host")
    made: dict[str, str] = {}
    if not settings.application_credentials:
        made["HOLDFAST_APP_TOKEN"] = secrets.token_urlsafe(32)
    if not settings.operator_credentials:
        made["HOLDFAST_ADMIN_TOKEN"] = secrets.token_urlsafe(32)
    return (
        dataclasses.replace(
            settings,
            application_credentials=settings.application_credentials or (made["HOLDFAST_APP_TOKEN"],),
            operator_credentials=settings.operator_credentials or (made["HOLDFAST_ADMIN_TOKEN"],),
            cookie_insecure=settings.cookie_insecure or settings.cookie_name is None,
            allowed_origins=settings.allowed_origins or _own_origins(settings),
        ),
        made,
    )


def _own_origins(settings: Settings) -> tuple[str, ...]:
    """What browsers on this machine call the server. Nothing for a port that is not known yet."""
    if settings.port == 0:
        return ()
    port = "" if settings.port == 80 else f":{settings.port}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host.lower()
    return tuple(dict.fromkeys(f"http://{each}{port}" for each in (host, "localhost")))


def development_app(settings: Settings) -> FastAPI:
    """The application, with a front door that leads to its documentation."""
    app = create_app(settings)

    async def to_docs(_: Request) -> Response:
        return RedirectResponse("docs")

    app.add_api_route("/", to_docs, include_in_schema=False, response_model=None)
    return app


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name counts when all of its addresses do."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ip_address(address[4][0]).is_loopback for address in found)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        # `strerror` of a failed bind repeats the address; that of a failed look-up is the only one there is.
        failed_bind = error.errno is not None and not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno or 0) if failed_bind else error.strerror or str(error)
        raise InvalidArgument(f"cannot listen on {host} port {port}: {reason}") from None
    # Accepted sockets inherit it. asyncio sets it only on sockets made with the protocol named, which this one is not.
    # Without it the body of an answer waits, behind its head, for the client's delayed acknowledgement: 40 ms each.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A client that takes in nothing for so long is gone; what is buffered for it must not stay for ever (Linux).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MILLISECONDS)
    return listener
