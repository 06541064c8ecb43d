"""One guarded socket: what stands between an application and its client from the handshake to the close.

A guarded socket has no task of its own while nothing happens: the end of its session is a callback, a message is
examined when the application asks for it, and only a close that has been decided runs by itself. That is what makes
ten thousand idle ones cheap.

There is one decision to close, and the first one counts. From that moment nothing of the client's reaches the
application, and nothing of the application's reaches the client: a message that waits to be sent is taken back, and
one that waits for its turn never gets it.
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.session import End, Session
from holdfast.sessions.watches import Attachment
from holdfast.sockets.expiry_notice import give_notice
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.handshake import HandshakeRefused, harmless_acceptance, hide_secrets, session_of
from holdfast.sockets.inspection import Inspection
from holdfast.sockets.interruptible import Interruptible
from holdfast.sockets.registry import Full, Place, SocketObserver, Sockets
from holdfast.sockets.wire import GOODBYE_SECONDS, Wire
from holdfast.web.closing import ABNORMAL, RESTART, TOO_SLOW, Closing, closing_of_end, closing_of_error
from holdfast.web.limits import client_address

SOCKET_KEY: Final = "holdfast.socket"
"""Where a scope holds its guarded socket."""


class SocketClosed(OSError):
    """The socket is closed, or its close is decided: nothing is sent any more. Starlette makes it a disconnect."""


class Admitted:
    """What a socket has from its admission on."""

    __slots__ = ("attachment", "inspection", "place")

    def __init__(self, attachment: Attachment, inspection: Inspection, place: Place) -> None:
        self.attachment = attachment
        self.inspection = inspection
        self.place = place


class GuardedSocket:
    """The socket of one ASGI call. It passes everything through until `admit`, and guards from then on."""

    __slots__ = (
        "_accepted",
        "_admitted",
        "_answering",
        "_begun",
        "_closer",
        "_closing",
        "_connect",
        "_held",
        "_inbound",
        "_left",
        "_manager",
        "_notice",
        "_observer",
        "_options",
        "_receiving",
        "_refused",
        "_sending",
        "_sockets",
        "_unsent",
        "_wire",
    )

    def __init__(
        self, manager: SessionManager, options: GuardOptions, sockets: Sockets, observer: SocketObserver, wire: Wire
    ) -> None:
        """Made by `SocketGuard.wrap`."""
        self._manager = manager
        self._options = options
        self._sockets = sockets
        self._observer = observer
        self._wire = wire
        self._admitted: Admitted | None = None
        self._begun = False
        self._accepted = False
        self._refused = False
        self._answering = False
        """Whether the application has begun an HTTP answer of its own, whose body must follow."""
        self._closing: Closing | None = None
        self._left = False
        self._connect: Message | None = None
        self._held: tuple[Message, asyncio.Task[bool]] | None = None
        """A message that is being examined. It outlives a receive that is cancelled, as `asyncio.wait_for` does."""
        self._closer: asyncio.Task[None] | None = None
        self._notice: asyncio.Task[None] | None = None
        self._inbound = asyncio.Lock()
        self._receiving: Interruptible | None = None
        self._sending: Interruptible | None = None
        self._unsent = 0

    @classmethod
    def of(cls, scope: Scope) -> "GuardedSocket":
        """The guarded socket of a scope. Raises `RuntimeError` when there is none."""
        socket = scope.get(SOCKET_KEY)
        if not isinstance(socket, cls):
            raise RuntimeError("this socket has no guard: give HoldfastMiddleware sockets=SocketGuard(…)")
        return socket

    @property
    def session(self) -> Session | None:
        """The session it was admitted with, as the last validate found it; `None` before `admit`."""
        return None if self._admitted is None else self._admitted.inspection.session

    @property
    def closing(self) -> Closing | None:
        """How it closes, or was closed, by whichever side; `None` while it is open."""
        return self._closing

    # The handshake

    async def admit(self) -> Session:
        """Check the handshake and begin to guard: the session it opens. Call it before the socket is accepted.

        Raises `HandshakeRefused` once the client has been told: let it pass. Safe to repeat.
        """
        if self._admitted is not None:
            return self._admitted.inspection.session
        if self._closing is not None:
            raise HandshakeRefused(self._closing)
        if self._accepted:
            raise RuntimeError("a socket is admitted before it is accepted")
        if not self._begun:
            self._begun, self._connect = True, await self._wire.receive()
        try:
            self._admitted = await self._admission()
        except (Full, HandshakeRefused) as refused:
            closing = refused.closing
        except StoreUnavailable as error:
            closing = closing_of_error(error)
        else:
            self._admitted.attachment.end.add_done_callback(self._heard)
            return self._admitted.inspection.session
        self._closing, self._refused = closing, True
        self._observer.handshake_refused(closing.reason)
        await self._wire.refuse(closing, browser_codes=self._options.browser_codes)
        raise HandshakeRefused(closing)

    async def _admission(self) -> Admitted:
        scope, options = self._wire.scope, self._options
        try:
            place = self._sockets.take(client_address(scope, options.trusted_proxies))
            try:
                asked_at = asyncio.get_running_loop().time()
                session = await session_of(scope, self._manager, options)
                self._sockets.admit(place, self, session)
                attachment = self._manager.watches.attach(session, asked_at)
            except BaseException:
                self._sockets.leave(place)
                raise
        finally:
            hide_secrets(scope, options)
        return Admitted(attachment, Inspection(self._manager, options, session, attachment, asked_at), place)

    # What the application uses

    async def receive(self) -> Message:
        """The client's next message, once it may pass; `websocket.disconnect` from the decision to close on."""
        if self._admitted is None and self._closing is None:
            self._begun = True
            return await self._wire.receive()
        async with self._inbound:
            if self._connect is not None:
                connect, self._connect = self._connect, None
                return connect
            while True:
                if (message := await self._next(self._admitted)) is not None:
                    return message

    async def _next(self, admitted: Admitted | None) -> Message | None:
        """The next message for the application, or `None` when there was one that is not for it."""
        if self._closed() is not None or admitted is None:
            code, reason = self._closing or ABNORMAL
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        if self._held is None:
            message: Message = {}
            admitted.inspection.listen()
            with Interruptible() as self._receiving:
                message = await self._wire.receive()
            if self._closed() is not None:
                return None
            if message["type"] == "websocket.disconnect":
                self._gone(Closing(message.get("code", ABNORMAL.code), message.get("reason") or ""))
                return message
            payload: str | bytes = message["bytes"] if message.get("text") is None else message["text"]
            if (closing := admitted.inspection.at_first_sight(payload)) is not None:
                self.close(closing)
                return None
            self._held = message, asyncio.create_task(self._examined(admitted.inspection, payload))
        message, examined = self._held
        with Interruptible() as self._receiving:
            # Not awaited itself: a receive that is cancelled must not take the examination with it.
            await asyncio.wait((examined,))
        if self._closed() is not None:
            return None
        self._held = None
        return message if examined.result() else None

    async def _examined(self, inspection: Inspection, payload: str | bytes) -> bool:
        """Whether the application gets it."""
        await inspection.paced()
        if self._closed() is not None:
            return False
        closing = await inspection.examined(payload)
        if closing is None and inspection.asks_to_extend(payload):
            closing, answer = await inspection.extended()
            if closing is None:
                await self._tell(answer)
                return False
        if closing is not None:
            self.close(closing)
        return closing is None

    async def send(self, message: Message) -> None:
        """Send the application's message. Raises `SocketClosed` from the decision to close on, having sent nothing.

        It waits while the client is slow, and while this process has to ask again whether the session lives.
        """
        kind = message["type"]
        if self._admitted is None and self._closing is None:
            self._accepted = kind == "websocket.accept" or self._accepted
            await self._wire.send(message)
        elif kind == "websocket.send":
            await self._deliver(message)
        elif kind == "websocket.accept":
            await self._accept(message)
        else:
            await self._end_by_application(message)

    async def _accept(self, message: Message) -> None:
        if self._admitted is None:
            raise SocketClosed("the handshake was refused")
        async with self._wire.turn:
            await self._sent(harmless_acceptance(message))
            self._accepted = True
        if self._closing is not None:
            # Over between the handshake and here: only now can the client be told why.
            self._begin_goodbye(self._closing)
        elif self._options.warn_before is not None:
            notice = give_notice(self._admitted.attachment, self._manager.clock, self._options.warn_before, self._tell)
            self._notice = asyncio.create_task(notice)

    async def _deliver(self, message: Message) -> None:
        if self._admitted is not None and self._unsent >= self._options.max_unsent:
            self.close(TOO_SLOW)
        self._unsent += 1
        try:
            async with self._wire.turn:
                attachment = self._checked_open()
                with Interruptible() as self._sending:
                    await self._confirmed(attachment)
                    self._checked_open()
                    # From here to the server's own write nothing is waited for, but for room in its buffer.
                    timer = asyncio.get_running_loop().call_later(self._options.send_timeout, self.close, TOO_SLOW)
                    try:
                        await self._sent(message)
                    finally:
                        timer.cancel()
                    return
            self._checked_open()
        finally:
            self._unsent -= 1

    async def _confirmed(self, attachment: Attachment) -> None:
        try:
            await attachment.confirm()
        except StoreUnavailable as error:
            self.close(closing_of_error(error))

    async def _sent(self, message: Message) -> None:
        try:
            await self._wire.send(message)
        except OSError:
            self._gone(ABNORMAL)
            raise

    async def _tell(self, text: str) -> None:
        """Send a message of the guard's own. Closed meanwhile, there is nobody to tell."""
        with suppress(OSError):
            await self._deliver({"type": "websocket.send", "text": text})

    async def _end_by_application(self, message: Message) -> None:
        """Pass on the application's close, or its own refusal of the handshake; after a decision that one is told."""
        kind = message["type"]
        if kind == "websocket.close" and self._accepted:
            # In the guard's own way: a client that never reads must not hold up the application for ever.
            await self._close_after_sends(Closing(message.get("code", 1000), message.get("reason") or ""))
        elif self._answering if kind == "websocket.http.response.body" else self._closed() is None:
            self._refused, self._answering = True, kind != "websocket.close"
            async with self._wire.turn:
                await self._sent(message)
            if kind == "websocket.close":
                self._gone(Closing(message.get("code", 1000), ""))
        else:
            await self._refuse_as_decided()

    async def _refuse_as_decided(self) -> None:
        """Refuse the handshake of a socket that was admitted, and whose close was decided before it was accepted."""
        if self._closing is None or self._refused or self._left:
            return
        self._refused = True
        async with self._wire.turn:
            await self._wire.refuse(self._closing, browser_codes=self._options.browser_codes)
        self._leave()

    async def _close_after_sends(self, closing: Closing) -> None:
        """Close as the application wishes: after what is being sent, with time for the client to take all that."""
        patience = self._options.send_timeout
        if self._closing is None:
            try:
                async with asyncio.timeout(patience), self._wire.turn:
                    if self._closed() is None:
                        self._decide(closing)
                        if self._accepted:
                            self._begin_goodbye(closing, patience)
            except TimeoutError:
                self.close(closing)
        await self._closed_in_order()

    async def _closed_in_order(self) -> None:
        if self._closer is not None:
            await asyncio.wait((self._closer,))

    # The end

    def close(self, closing: Closing) -> None:
        """Decide that it closes, and let that happen soon. The first decision counts; never waits, never raises."""
        if self._closing is not None:
            self._wire.hurry()
            return
        self._decide(closing)
        if self._accepted:
            self._begin_goodbye(closing)

    async def finish(self, closing: Closing) -> None:
        """The application is done with it: close it if it is open, wait for the close to be sent, and forget it."""
        if self._admitted is None:
            return
        if not self._accepted and self._closed() is not None:
            await self._refuse_as_decided()
        await self._close_after_sends(closing)
        self.forget()

    def forget(self) -> None:
        """Take back everything this process does for it. Safe to repeat."""
        if self._held is not None:
            self._held[1].cancel()
        self._gone(ABNORMAL)

    def _heard(self, end: asyncio.Future[End]) -> None:
        """The session is over, or the manager closes first."""
        if not end.cancelled():
            self.close(RESTART if end.exception() is not None else closing_of_end(end.result().reason))

    def _closed(self) -> Closing | None:
        """The decision, if there is one. An end that is known and has only not been called back yet makes it too."""
        if self._closing is None and self._admitted is not None and self._admitted.attachment.end.done():
            self._heard(self._admitted.attachment.end)
        return self._closing

    def _checked_open(self) -> Attachment:
        if (closing := self._closed()) is not None or self._admitted is None:
            code, reason = closing or ABNORMAL
            raise SocketClosed(f"closed: {code} {reason}")
        return self._admitted.attachment

    def _decide(self, closing: Closing) -> None:
        self._closing = closing
        for waiting in (self._receiving, self._sending):
            if waiting is not None:
                waiting.interrupt()
        if self._notice is not None:
            self._notice.cancel()

    def _begin_goodbye(self, closing: Closing, within: float = GOODBYE_SECONDS) -> None:
        self._closer = asyncio.create_task(self._wire.close(closing, within))
        self._closer.add_done_callback(lambda _: self._leave())

    def _gone(self, closing: Closing) -> None:
        """The client, or the server beneath, has closed it."""
        if self._closing is None:
            self._decide(closing)
        if self._closer is None or self._closer.done():
            self._leave()

    def _leave(self) -> None:
        """It is closed, or as good as closed: give its place back."""
        if self._admitted is None or self._closing is None or self._left:
            return
        self._left = True
        self._admitted.attachment.close()
        self._sockets.leave(self._admitted.place)
        self._observer.socket_closed(self._closing.code)
        self._wire.drop_later()


async def socket_session(websocket: WebSocket) -> Session:
    """The live session of a WebSocket handshake, checked before it is accepted; the socket lives as long as it does.

        async def chat(websocket: WebSocket, session: Annotated[Session, Depends(socket_session)]) -> None: …

    The handshake is refused when there is none, when the page is not of an allowed origin, when the path names
    another session, and when there are too many sockets. Starlette's endpoints call it themselves.

    Needs `HoldfastMiddleware` with `sockets=SocketGuard(…)`; raises `RuntimeError` without it.
    """
    return await GuardedSocket.of(websocket.scope).admit()
