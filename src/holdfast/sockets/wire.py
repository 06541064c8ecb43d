"""The server's end of one socket: refusing its handshake, and closing its connection whatever the client does."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from starlette.types import Receive, Scope, Send

from holdfast.sockets.connection import abort_of
from holdfast.sockets.handshake import denial
from holdfast.web.closing import Closing

log = logging.getLogger("holdfast.sockets")

GOODBYE_SECONDS: Final = 1.0
"""How long a close that was decided may wait for room in the connection's buffer before the connection is dropped."""
_LINGER_SECONDS: Final = 11.0
"""How long a connection may stay after its close before it is dropped. uvicorn waits ten for the client's answer."""


class Wire:
    """What the server handed over for one socket."""

    __slots__ = ("_limit", "receive", "scope", "send", "turn")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take it."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self.turn = asyncio.Lock()
        """Held by whoever sends, so that messages keep their order and none follows a close."""
        self._limit: asyncio.Timeout | None = None

    async def refuse(self, closing: Closing, *, browser_codes: bool) -> None:
        """Refuse the handshake: with an HTTP answer, or with a close that a browser's page can read."""
        # A client that has gone already needs no answer.
        with suppress(OSError):
            if browser_codes:
                # Some browsers drop a socket that accepts none of the subprotocols they asked for.
                subprotocol = next(iter(self.scope.get("subprotocols", ())), None)
                await self.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
                await self.send({"type": "websocket.close", **closing._asdict()})
                self.drop_later()
            elif "websocket.http.response" in (self.scope.get("extensions") or {}):
                await denial(self.scope, closing)(self.scope, self.receive, self.send)
                # uvicorn logs a fault when it still has the connection as the application returns. Now it lets go.
                await asyncio.sleep(0)
            else:
                await self.send({"type": "websocket.close", **closing._asdict()})

    async def close(self, closing: Closing, within: float) -> None:
        """Close in order if the client lets us in so many seconds, and drop the connection otherwise. Never raises."""
        try:
            async with asyncio.timeout(within) as self._limit, self.turn:
                await self.send({"type": "websocket.close", **closing._asdict()})
        except TimeoutError:
            # The buffer is full, and closing in order would wait for the client to read all of it.
            self._drop()
        except OSError:
            log.debug("the client was gone before its socket could be closed")
        except Exception:
            log.exception("a socket could not be closed in order, so its connection is dropped")
            self._drop()
        finally:
            self._limit = None

    def hurry(self) -> None:
        """Give a close that still waits for the client no longer than one that was decided."""
        limit, soon = self._limit, asyncio.get_running_loop().time() + GOODBYE_SECONDS
        if limit is not None and not limit.expired() and (limit.when() or 0.0) > soon:
            limit.reschedule(soon)

    def drop_later(self) -> None:
        """Drop the connection in a while, if it is there yet. Safe to repeat."""
        if (abort := abort_of(self.scope, self.send)) is not None:
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, abort)

    def _drop(self) -> None:
        if (abort := abort_of(self.scope, self.send)) is not None:
            abort()
