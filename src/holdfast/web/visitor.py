"""Who is asking, for one request: the session behind its credential, and what log-in and log-out do to the answer."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Scope

from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import NewSession, Session
from holdfast.web.caching import RawHeaders, keep_nowhere, keep_private
from holdfast.web.cookies import delete_cookie, set_cookie
from holdfast.web.credential import Credential, Way, credential_of
from holdfast.web.errors import CrossSite
from holdfast.web.origins import SAFE_METHODS
from holdfast.web.succession import Succession
from holdfast.web.visitor_options import VisitorOptions

log = logging.getLogger("holdfast.web")

SCOPE_KEY: Final = "holdfast"
"""Where `HoldfastMiddleware` puts the visitor, in the scope of a request or a handshake."""


class Visitor:
    """One request's, or one handshake's, way to its session. Nothing is asked of the store before a method is called.

        visitor = Visitor.of(request)
        session = await visitor.session()

    It belongs to its request: used by any number of tasks while that lasts, and not after it.
    """

    def __init__(self, scope: Scope, manager: SessionManager, options: VisitorOptions) -> None:
        """Made by `HoldfastMiddleware`; applications get theirs with `Visitor.of`."""
        # Not the scope itself, which holds the visitor: a cycle for each request is work for the garbage collector.
        self._scope = {name: scope[name] for name in ("type", "method", "headers") if name in scope}
        self._manager = manager
        self._options = options
        self._lock = asyncio.Lock()
        self._presented: Credential | None = None
        self._session: Session | None = None
        # Whether the store was asked, whether the credential was looked at, whether the answer's head is out.
        self._known = self._used = self._started = False
        self._dead = False
        self._token_moved = False
        self._cookie: str | None = None
        self._clear = False
        self._undelivered: NewSession | None = None

    @classmethod
    def of(cls, connection: HTTPConnection | Scope) -> "Visitor":
        """The visitor of a request, a WebSocket or a bare ASGI scope.

        Raises `RuntimeError` when no `HoldfastMiddleware` is around the application.
        """
        scope = connection.scope if isinstance(connection, HTTPConnection) else connection
        visitor = scope.get(SCOPE_KEY)
        if not isinstance(visitor, cls):
            raise RuntimeError("there is no visitor here: put HoldfastMiddleware around the application")
        return visitor

    def __repr__(self) -> str:
        return f"Visitor(way={self.way!r})"

    @property
    def way(self) -> Way | None:
        """How the credential came: `bearer`, `cookie`, or `None` when there is none."""
        return self._credential().way

    @property
    def token(self) -> str | None:
        """The text that the request presents as its token, for calls of the manager; `None` when there is none.

        Nobody has checked it. Whoever reads it looks at the session, and the answer tells caches so.
        """
        self._used = True
        way, token = self._credential()
        if self._scope["type"] == "http" or way is None:
            return token
        # The browser sends the cookie along whoever's page opens the socket (OWASP ASVS 5.0, 4.4.2).
        if not self._options.origins.permits_handshake(self._scope, cookie=way == "cookie"):
            log.info("a WebSocket handshake came from an origin that is not on the list; its %s was not used", way)
            return None
        return token

    async def session(self) -> Session | None:
        """The live session, its activity recorded: once for a request, however often this is called. `None` if none.

        Raises `StoreUnavailable` when the store cannot be asked; that never means "logged out".
        """
        async with self._lock:
            if not self._known:
                token = self.token
                self._learned(None if token is None else await self._manager.validate_session(token))
            return self._session

    async def peek(self) -> Session | None:
        """The live session without recording an activity; what `session` found, once that was called."""
        async with self._lock:
            return await self._peeked()

    async def log_in(self, user_id: str | None, metadata: Mapping[str, Any] | None = None) -> NewSession:
        """Begin a session for whoever the application now knows this visitor to be, under a new token.

        A browser gets the token in its cookie. A client that came with `Authorization` gets no cookie: hand it the
        token. The session that the request came with is ended, so that nobody who planted it shares the new one
        (session fixation; OWASP ASVS 5.0, 7.2.4).

        Several store calls. When one fails, or the request is cancelled before the old session has ended, the visitor
        is as before, but for this: under a cap, logging in again as the same user ends the old session first, so that
        it takes no place, and a failure after that leaves the visitor logged out. No session stays whose token reached
        nobody.

        Raises `CrossSite` when another origin's page sent the request, `TooManySessions`, `InvalidArgument`, and
        `RuntimeError` once the answer has begun.
        """
        self._check_head()
        if self._changes_by_cookie() and not self._options.origins.permits_log_in(self._scope):
            raise CrossSite("a page of another origin would log its visitor in")
        async with self._lock:
            before = await self._peeked()
            made, new = Succession(self._manager), None
            if before is not None:
                new = await made.succeed(before.id, before.user_id, metadata, user_id)
            if new is None:
                new = await made.begin(metadata, user_id)
            try:
                self._check_head()
            except RuntimeError:
                await made.take_back(new)
                raise
            self._undelivered = new
            self._give(new)
            # Its first validation is still to come, if anybody asks.
            self._session, self._known = None, False
            return new

    async def log_out(self) -> bool:
        """End the session and let the browser forget its cookie; whether there was a live one. Safe to repeat.

        When the store cannot be asked it raises, and the cookie stays: the visitor is still logged in.

        With a cookie only a page that may act does this, by whatever method: raises `CrossSite` otherwise. Raises
        `RuntimeError` once the answer has begun.
        """
        self._check_head()
        self.check_origin()
        async with self._lock:
            if self._known:
                ended = self._session is not None and await self._manager.end_session(self._session.id)
            else:
                token = self.token
                ended = token is not None and await self._manager.delete_session(token)
            way, token = self._credential()
            if way == "cookie" and token is not None and self._options.cookie is not None:
                self._cookie = delete_cookie(self._options.cookie)
            self._token_moved = self._clear = True
            self._dead, self._undelivered = False, None
            self._session, self._known = None, True
            return ended

    async def rotate(self) -> NewSession | None:
        """Give the session a new token, in the cookie if it came in one; `None` when there is no live session.

        Open WebSockets stay. Of parallel rotations one succeeds; the others get `None` and change no cookie.

        Raises `CrossSite` as `log_out` does, and `RuntimeError` once the answer has begun.
        """
        self._check_head()
        self.check_origin()
        async with self._lock:
            token = self.token
            new = None if token is None else await self._manager.rotate_session(token)
            if new is not None:
                self._check_head()
                self._give(new)
            return new

    def check_origin(self) -> None:
        """Raise `CrossSite` if the credential is a cookie and no page that may act sent the request."""
        if self._credential().way == "cookie" and not self._options.origins.permits_unsafe(self._scope):
            self._used = True
            raise CrossSite("a page of another site, or nobody knows whose, would act with the visitor's cookie")

    def check_request(self) -> None:
        """Raise `CrossSite` as `check_origin` does, if the request's method may change anything (RFC 9110, 9.2.1)."""
        if self._is_unsafe():
            self.check_origin()

    # What the middleware does

    @property
    def started(self) -> bool:
        """Whether the head of the answer is out, so that no cookie can be added."""
        return self._started

    def finish(self, headers: RawHeaders) -> None:
        """Put cookie and cache rules into the head of the answer. From here on none can be added."""
        self._started = True
        self._undelivered = None
        if self._cookie is None and self._dead and self._may_forget():
            assert self._options.cookie is not None  # noqa: S101 - for the type checker: only cookies die here
            self._cookie = delete_cookie(self._options.cookie)
        if self._cookie is not None:
            headers.append((b"set-cookie", self._cookie.encode("latin-1")))
        if self._clear and self._options.clear_site_data:
            clear = ", ".join(f'"{each}"' for each in self._options.clear_site_data)
            headers.append((b"clear-site-data", clear.encode("latin-1")))
        if self._cookie is not None or self._token_moved:
            keep_nowhere(headers, self._options.vary)
        elif self._used:
            keep_private(headers, self._options.vary)

    async def take_back(self) -> None:
        """End a session whose token reached nobody, so that it takes no place under its user's cap."""
        new, self._undelivered = self._undelivered, None
        if new is not None:
            await Succession(self._manager).take_back(new)

    # The rest

    def _credential(self) -> Credential:
        if self._presented is None:
            self._presented = credential_of(self._scope, self._options.cookie, bearer=self._options.bearer)
        return self._presented

    async def _peeked(self) -> Session | None:
        if self._known:
            return self._session
        token = self.token
        session = None if token is None else await self._manager.get_session(token)
        self._dead = session is None and token is not None and self._credential().way == "cookie"
        return session

    def _learned(self, session: Session | None) -> None:
        self._session, self._known = session, True
        way, token = self._credential()
        self._dead = session is None and way == "cookie" and token is not None

    def _give(self, new: NewSession) -> None:
        """Hand a new token to the visitor, and go on under it."""
        way = self._credential().way
        cookie = None if way == "bearer" else self._options.cookie
        if cookie is not None:
            self._cookie = set_cookie(cookie, new.token)
        self._presented = Credential(way or ("bearer" if cookie is None else "cookie"), new.token)
        self._token_moved = self._used = True
        self._dead = self._clear = False

    def _is_unsafe(self) -> bool:
        return self._scope["type"] == "http" and self._scope["method"] not in SAFE_METHODS

    def _changes_by_cookie(self) -> bool:
        return self._is_unsafe() and self._options.cookie is not None and self._credential().way != "bearer"

    def _may_forget(self) -> bool:
        """Whether the answer may delete a dead cookie.

        Not to a script's request: it may have been sent just before a log-in or a rotation that gave the browser a
        new cookie, and its answer would take that one away. Of every reason to be dead alike, so that the answer
        does not tell them apart.
        """
        modes = [value for name, value in self._scope["headers"] if name == b"sec-fetch-mode"]
        return modes in ([], [b"navigate"])

    def _check_head(self) -> None:
        if self._scope["type"] != "http":
            raise RuntimeError("a WebSocket has no answer that could carry a cookie: do this over HTTP")
        if self._started:
            raise RuntimeError("the answer has begun, so its cookie cannot change: do this before anything is sent")
