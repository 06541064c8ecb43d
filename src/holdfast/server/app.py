"""The application of the server, wired from settings: the one function that knows every part."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.api.credentials import Credentials
from holdfast.api.options import RouterOptions
from holdfast.api.router import session_router
from holdfast.api.socket_routes import socket_routes
from holdfast.move.following import FollowingStore
from holdfast.move.status import StatusReader
from holdfast.server.access import Access, LastResort
from holdfast.server.correlation import Correlation
from holdfast.server.docs import add_docs
from holdfast.server.health import Readiness, alive
from holdfast.server.lag import LoopLag
from holdfast.server.metrics import Metrics
from holdfast.server.moving import MoveWatch
from holdfast.sessions.errors import InvalidArgument, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import TwoStores
from holdfast.settings import Settings
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.guard_options import GuardOptions
from holdfast.version import package_version
from holdfast.web.cookies import DEFAULT_NAME, DEVELOPMENT_NAME, CookieOptions
from holdfast.web.limits import BodyLimit
from holdfast.web.origins import Origins
from holdfast.web.responses import error_answer


def create_app(
    settings: Settings, manager: SessionManager | None = None, readiness: Readiness | None = None
) -> FastAPI:
    """The server's application. Its lifespan opens and closes the manager.

    Args:
        settings: everything that can be chosen.
        manager: one to use instead of the one that the settings name, not open yet.
        readiness: one to use instead of its own, over the same manager; for tests.

    A store that cannot be reached, or that a move under way has not come to, does not keep it from starting; one that
    refuses does (`StoreRefused`), unless somebody set `app.state.readiness.on_refused`. Later neither ends it: it is
    not ready until the store is.

    Raises `InvalidArgument` for a cookie or an origin that browsers would not take as it is.
    """
    sessions = manager or settings.manager()
    watch = readiness or Readiness(sessions)
    metrics = Metrics(lambda: watch.ready)
    lag = LoopLag(metrics.lag)
    active = metrics.sessions(sessions, settings.count_every_seconds)
    moving = _move_watch(settings, sessions)
    if moving is not None:
        watch.move = moving.brief
        metrics.move(moving)
    guard = SocketGuard(sessions, guard_options_of(settings), metrics)
    # An application that adds a guard of its own puts it here, so that stopping drains it as well.
    guards = [guard]
    metrics.sockets(lambda: sum(each.open_sockets for each in guards), lambda: sessions.watches.channel == "push")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await watch.start()
        lag.start()
        active.start()
        if moving is not None:
            moving.start()
        try:
            yield
        finally:
            if moving is not None:
                await moving.stop()
            await active.stop()
            await lag.stop()
            await watch.stop()
            await sessions.close()

    app = FastAPI(
        title="Holdfast",
        version=package_version(),
        lifespan=lifespan,
        # Ours come from add_docs; and a redirect would be made of the Host header, which the client writes.
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.manager = sessions
    app.state.readiness = watch
    app.state.guards = guards
    app.state.metrics = metrics
    app.include_router(
        session_router(
            sessions,
            Credentials(settings.application_credentials, settings.operator_credentials),
            RouterOptions(
                allow_anonymous=settings.allow_anonymous,
                anonymous_per_minute=settings.anonymous_per_minute,
                anonymous_total_per_minute=settings.anonymous_total_per_minute,
                allow_extend=settings.allow_extend,
                allow_metadata=settings.allow_metadata,
                cookie=session_cookie_of(settings),
                origins=allowed_origins_of(settings),
                trusted_proxies=settings.trusted_proxies,
                observe=metrics.event,
                move=None if moving is None else moving.whole,
            ),
        )
    )
    for path, show in (("/healthz", alive), ("/readyz", watch.show), ("/metrics", metrics.show)):
        app.add_api_route(path, show, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)
    app.router.routes += socket_routes(guard)
    add_docs(app)
    app.add_exception_handler(HTTPException, _refused)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(LastResort)
    app.add_middleware(Access, metrics=metrics)
    app.add_middleware(Correlation)
    return app


def _move_watch(settings: Settings, sessions: SessionManager) -> MoveWatch | None:
    """What looks at the two stores that the settings name; `None` when they name one."""
    stores = settings.stores()
    if not isinstance(stores, TwoStores):
        return None

    def serving() -> str | None:
        try:
            store = sessions.store
        except StoreUnavailable:
            return None
        return store.serving if isinstance(store, FollowingStore) else None

    return MoveWatch(StatusReader(stores.sqlite, stores.postgresql, settings.store_options()), serving)


def guard_options_of(settings: Settings) -> GuardOptions:
    """How the settings want sockets guarded. Raises `InvalidArgument` for a cookie or an origin, as `create_app`."""
    return GuardOptions(
        cookie=session_cookie_of(settings),
        origins=allowed_origins_of(settings),
        allow_token_in_url=settings.allow_token_in_url,
        validate_every=settings.validate_every_seconds,
        max_message_bytes=settings.max_message_bytes,
        messages_per_second=settings.messages_per_second,
        message_burst=max(1, round(settings.messages_per_second * 5)),
        max_per_session=settings.sockets_per_session,
        max_per_user=settings.sockets_per_user,
        max_sockets=settings.max_sockets,
        allow_extend=settings.allow_extend,
        trusted_proxies=settings.trusted_proxies,
    )


def session_cookie_of(settings: Settings) -> CookieOptions:
    """The session cookie that the settings describe. Raises `InvalidArgument` when they contradict each other."""
    return CookieOptions(
        name=settings.cookie_name or (DEVELOPMENT_NAME if settings.cookie_insecure else DEFAULT_NAME),
        same_site=settings.cookie_same_site,
        secure=not settings.cookie_insecure,
    )


def allowed_origins_of(settings: Settings) -> Origins:
    """Whose pages may act with it. Raises `InvalidArgument` for a spelling that no browser sends."""
    try:
        return Origins(settings.allowed_origins)
    except InvalidArgument as error:
        raise InvalidArgument(f"HOLDFAST_ALLOWED_ORIGINS: {error}") from None


async def _refused(request: Request, error: Exception) -> Response:
    """What no route of ours answers: unknown paths and methods."""
    return error_answer(request.scope, error)
