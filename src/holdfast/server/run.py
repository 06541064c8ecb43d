"""Running the application in a process: where it may listen, how it stops, and the development profile."""

import dataclasses
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.server.app import create_app
from holdfast.server.health import Readiness
from holdfast.server.logging import configure
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.settings import Settings

log = logging.getLogger("holdfast.server")

_BACKLOG: Final = 2048
_MAX_HEADER_BYTES: Final = 16 * 1024
_KEEP_ALIVE_SECONDS: Final = 5


class _Server(uvicorn.Server):
    """uvicorn's server, not ready from the moment it begins to stop, so that a balancer passes it over."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests under way."""
        log.info("stopping: finishing what is under way")
        readiness: Readiness = self.config.app.state.readiness  # type: ignore[union-attr]  # always create_app's
        await readiness.stop()
        await super().shutdown(sockets)
        if self.force_exit:
            # A second Ctrl-C. What is cut off now would be told to the log as one fault for each task.
            log.warning("stopped at once: what was under way has no answer")
            logging.getLogger("uvicorn.error").disabled = True


def serve(settings: Settings, app: FastAPI | None = None, on_listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way and return.

    `on_listening` is called once nobody else can have the address any more, before the first request.

    Raises `InvalidArgument` when it must not or cannot listen there, and `StoreRefused` when the store must
    not be used as it is. A store that cannot be reached is waited for.
    """
    check_exposure(settings)
    configure(settings.log_level, settings.json_logs)
    application = app or create_app(settings)
    listener = _listen(settings.host, settings.port)
    server = _Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            # Addresses are judged in one place, `web.limits`, by the networks in the settings.
            proxy_headers=False,
            server_header=False,
            date_header=True,
            limit_concurrency=settings.max_connections,
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.graceful_seconds,
        )
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
    return listener
