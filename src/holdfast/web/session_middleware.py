"""The drop-in for `starlette.middleware.sessions.SessionMiddleware`: `request.session` in a session of the manager.

    from holdfast.web.session_middleware import SessionMiddleware

The dict behaves as Starlette's does, and the cookie holds a token instead of the values. What differs, and why, is
in docs/how-to/replace-starlettes-sessions.md.
"""

import logging
from typing import Final

from starlette.datastructures import Secret
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.sessions.manager import SessionManager
from holdfast.web.caching import RawHeaders, keep_nowhere, keep_private
from holdfast.web.errors import CrossSite
from holdfast.web.lazy_manager import LazyManager
from holdfast.web.origins import SAFE_METHODS, Origins
from holdfast.web.responses import ANSWERED, answer_instead
from holdfast.web.session_rules import SessionRules
from holdfast.web.session_state import CookieChange, SessionState
from holdfast.web.starlette_cookie import SameSite, StarletteCookie

log = logging.getLogger("holdfast.web")

TWO_WEEKS: Final = 14 * 24 * 60 * 60

_VARY: Final = (b"Cookie",)


class SessionMiddleware:
    """ASGI middleware: puts the visitor's session, a dict, into the scope of every request and every WebSocket.

        app.add_middleware(SessionMiddleware, manager=SessionManager("sqlite:///sessions.db"))

    A request with the cookie is one activity of its session. A request without one asks no store unless the
    application puts something into the dict. What it changes is saved when the response starts, key by key, so that
    parallel requests keep each other's keys; clearing the dict ends the session. When the store cannot be asked the
    request is answered 503, and the application does not run.
    """

    def __init__(
        self,
        app: ASGIApp,
        secret_key: str | Secret | None = None,
        session_cookie: str = "session",
        max_age: int | None = TWO_WEEKS,
        path: str = "/",
        same_site: SameSite = "lax",
        https_only: bool = False,
        domain: str | None = None,
        partitioned: bool = False,
        *,
        manager: SessionManager | None = None,
        user_key: str | None = "user_id",
        origins: Origins | None = None,
    ) -> None:
        """Put it around an application. Those by position are Starlette's arguments, with its defaults.

        Args:
            app: the application.
            secret_key: not needed and not used; taken so that nothing but the import has to change. The token in the
                cookie is random and is checked against the store, so there is nothing to sign.
            session_cookie: the cookie's name. With `https_only`, `path="/"` and no domain, `__Host-session` is safer.
            max_age: seconds that a session lives after it was last changed, in the browser and in the store, to within
                a percent; the manager's `max_lifetime` is never passed. `None`: until the browser is closed, and in
                the store the manager's lifetime after the last change.
            path: where the browser sends the cookie.
            same_site: `lax`, `strict`, or `none`, which browsers take with `https_only` only.
            https_only: whether the browser sends the cookie over HTTPS only. Turn it on wherever there is HTTPS.
            domain: a domain whose hosts all receive the cookie; `None` for this host alone.
            partitioned: whether the browser keeps one cookie for each site that embeds the application.
            manager: whose sessions they are; `None` for `get_session_manager()`. One that is not open is opened when
                it is needed, or when the application has started, and closed when the application stops.
            user_key: the key of the dict that names the session's user, as a string or a whole number; `None` if none
                does. When it changes, the visitor gets a new session under a new token, so that nobody who planted
                the old one is logged in with it.
            origins: whose pages may open WebSockets and send what changes something, with the cookie. A handshake of
                another's is one of a visitor without a session; a request of another's is refused with 403. `None`
                lets everybody's, as Starlette does: then `same_site` is all that keeps other sites' pages off. The
                first WebSocket that a page opens then with the cookie is warned of.

        Raises `InvalidArgument` for a cookie that browsers would refuse or read otherwise.
        """
        del secret_key
        self._app = app
        self._keeper = LazyManager(manager)
        self._rules = SessionRules(max_age=max_age, user_key=user_key)
        self._origins = origins
        self._warns = origins is None
        self._cookie = StarletteCookie(
            session_cookie,
            max_age=max_age,
            path=path,
            same_site=same_site,
            https_only=https_only,
            domain=domain,
            partitioned=partitioned,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a WebSocket on with its session, and a lifespan with the manager's."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._keeper.lifespan(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            state = await self._loaded(scope)
        except ANSWERED as error:
            await answer_instead(error, scope, receive, send)
            return
        session = state.session
        failure: Exception | None = None
        saved_changes: int | None = None

        async def saving(message: Message) -> None:
            nonlocal failure, saved_changes
            if failure is not None:
                raise failure
            if message["type"] == "http.response.start":
                try:
                    await self._save(state, scope, message)
                except Exception as error:
                    failure = error
                    raise
                saved_changes = session.changes
            await send(message)

        try:
            await self._app(scope, receive, saving)
        except Exception as error:
            if failure is None:
                raise
            _note_another(error, failure)
        if failure is not None:
            await _answer(failure, scope, receive, send)
        elif saved_changes is not None and session.changes != saved_changes:
            log.warning("request.session was changed after the response had started; that is not saved")

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            state = await self._loaded(scope)
        except ANSWERED as error:
            await answer_instead(error, scope, receive, send)
            return
        failure: Exception | None = None
        accepted = left = False

        async def noted() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "websocket.disconnect"
            return message

        async def saving(message: Message) -> None:
            nonlocal failure, accepted
            if failure is not None:
                raise failure
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                try:
                    await self._save(state, scope, message)
                except Exception as error:
                    failure = error
                    raise
                accepted = message["type"] == "websocket.accept"
            elif message["type"] == "websocket.close" and accepted:
                # Before the client can know, so that its next request finds it.
                await self._save_in_socket(state, last=False)
            await send(message)

        try:
            await self._app(scope, noted, saving)
        except Exception as error:
            if failure is None:
                # A handler that the client's leaving took by surprise has not failed.
                if accepted and left:
                    await self._save_in_socket(state, last=True)
                raise
            _note_another(error, failure)
        if failure is not None:
            await _answer(failure, scope, receive, send)
        elif accepted:
            await self._save_in_socket(state, last=True)

    async def _loaded(self, scope: Scope) -> SessionState:
        state = SessionState(self._keeper, self._rules)
        token = self._cookie.token(scope)
        if token is not None and self._may_act(scope):
            await state.load(token)
        scope["session"] = state.session
        return state

    def _may_act(self, scope: Scope) -> bool:
        """Whether the cookie counts. Raises `CrossSite` for a request that would change something with it."""
        if self._origins is None:
            if self._warns and scope["type"] == "websocket" and _is_of_page(scope):
                self._warns = False
                log.warning(
                    "WebSockets are opened with the session cookie from any page, as with Starlette: pass "
                    'origins=Origins(["https://app.example.com"]), with the origins of your own pages'
                )
            return True
        if scope["type"] == "http":
            if scope["method"] not in SAFE_METHODS and not self._origins.permits_unsafe(scope):
                raise CrossSite("a page of another site, or nobody knows whose, would act with the visitor's cookie")
            return True
        if self._origins.permits_handshake(scope, cookie=True):
            return True
        log.info("a WebSocket handshake came from an origin that is not on the list; its cookie was not used")
        return False

    async def _save(self, state: SessionState, scope: Scope, message: Message) -> None:
        """Save, and put cookie and cache rules into the head of the answer."""
        change = await state.save()
        headers: RawHeaders = list(message.get("headers") or ())
        message["headers"] = headers
        if change is not None and not (change.late and _is_of_script(scope)):
            headers.append((b"set-cookie", self._header(change).encode("latin-1")))
            keep_nowhere(headers, _VARY)
        elif state.session.accessed:
            keep_private(headers, _VARY)

    def _header(self, change: CookieChange) -> str:
        return self._cookie.deleting() if change.token is None else self._cookie.setting(change.token)

    async def _save_in_socket(self, state: SessionState, *, last: bool) -> None:
        try:
            await state.save(answering=False)
        except ANSWERED as error:
            # The client is gone, or going: there is nobody to answer.
            if last:
                log.error("what was put into websocket.session is lost: %s", error)
            else:
                log.warning("websocket.session could not be saved; it is tried once more: %s", error)


async def _answer(failure: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    if not isinstance(failure, ANSWERED):
        raise failure
    await answer_instead(failure, scope, receive, send)


def _is_of_page(scope: Scope) -> bool:
    """Whether a browser sent the handshake: it always says whose page opens the socket (RFC 6455, 10.2)."""
    return any(name == b"origin" for name, _ in scope["headers"])


def _is_of_script(scope: Scope) -> bool:
    """Whether a script sent the request. Its answer may come after that of a log-in which it knows nothing of."""
    modes = [value for name, value in scope["headers"] if name == b"sec-fetch-mode"]
    return modes not in ([], [b"navigate"])


def _note_another(error: Exception, failure: Exception) -> None:
    """Frameworks turn what `send` raises into errors of their own; what is answered is the failure to save."""
    if error is not failure:
        # By its kind alone: what it says may be a secret of the application's.
        log.info("the application ended with %s after its session could not be saved", type(error).__name__)
