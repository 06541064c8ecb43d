"""Whether this process is alive, and whether it can serve.

Two questions with two answers: an orchestrator kills a process that is not alive, and a balancer passes over
one that is not ready. A lost database makes a process not ready, and killing it would bring nothing back.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from holdfast.sessions.background import Background
from holdfast.sessions.errors import AuthorityMoved, StoreRefused, StoreUnavailable
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.store import MovableStore

log = logging.getLogger("holdfast.server")

INTERVAL: Final = 1.0
PING_TIMEOUT: Final = 2.0
GOOD_FOR: Final = 4.0
"""A good answer counts for so many seconds, so a store that falls silent is noticed within five."""
_FIRST_LOOK: Final = 3.0

Reason = Literal["ok", "starting", "unavailable", "elsewhere", "refused", "stopping"]
"""`elsewhere`: the store answers, and another one holds the authority, which this process does not know."""


class Readiness:
    """Opens the manager, then asks its store every second whether it takes writes."""

    def __init__(
        self,
        manager: SessionManager,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`monotonic` and `pause` are for tests."""
        self._manager = manager
        self._monotonic = monotonic
        self._pause = pause
        self._last_good: float | None = None
        self._reason: Reason = "starting"
        self._fit = False
        self._first_look = asyncio.Event()
        self._looking = Background(self._run, "holdfast-readiness")
        self._refusal: StoreRefused | None = None
        self.move: Callable[[], dict[str, Any]] | None = None
        """Says how a move stands, where this process has the two stores of one."""
        self.on_refused: Callable[[StoreRefused], None] | None = None
        """Told when the store must not be used from the start; whoever runs the process ends it.

        `None`: `start` raises.
        """

    @property
    def ready(self) -> bool:
        """Whether the last good answer is recent enough."""
        return (
            self._reason != "stopping"
            and self._last_good is not None
            and self._monotonic() - self._last_good <= GOOD_FOR
        )

    @property
    def reason(self) -> Reason:
        """One word that says why not, or `ok`."""
        if self.ready:
            return "ok"
        return "unavailable" if self._reason == "ok" else self._reason

    async def start(self) -> None:
        """Begin, and wait a moment for the first answer; a store out of reach is no reason not to start.

        Raises `StoreRefused` when the store must not be used and nobody set `on_refused`.
        """
        self._looking.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first_look.wait(), _FIRST_LOOK)
        if self._refusal is not None and self.on_refused is None:
            await self.stop()
            raise self._refusal

    async def stop(self) -> None:
        """Not ready from now on. Safe to repeat."""
        self._reason = "stopping"
        await self._looking.stop()

    async def look(self) -> None:
        """Ask once. Never raises, but when it is cancelled."""
        before = self._reason
        try:
            await self._manager.open()
            self._manager.watches.start()
            async with asyncio.timeout(PING_TIMEOUT):
                await self._manager.ping()
                store = self._manager.store
                if isinstance(store, MovableStore) and (await store.authority()).authority == "there":
                    raise AuthorityMoved("another store holds the authority by now")
        except StoreRefused as refusal:
            self._reason = "refused"
            if before != "refused":
                log.critical("the store refused: %s", refusal)
            # Only at the start is that a mistake of whoever started it. Later it is an outage like any other: ending
            # every process would bring nothing back.
            if not self._fit:
                self._refusal = refusal
                if self.on_refused is not None:
                    self.on_refused(refusal)
        except AuthorityMoved as error:
            self._reason, self._fit = "elsewhere", True
            if before != "elsewhere":
                log.warning("this store does not serve; looking every second whether it does: %s", error)
        except (StoreUnavailable, TimeoutError) as error:
            self._reason = "unavailable"
            if before != "unavailable":
                # A time-out of ours has no text.
                why = str(error) or f"it was silent for {PING_TIMEOUT:g} s"
                log.warning("the store does not answer; trying every second: %s", why)
        except Exception:
            self._reason = "unavailable"
            log.exception("the store could not be asked")
        else:
            self._last_good = self._monotonic()
            self._reason, self._fit = "ok", True
            if before != "ok":
                log.info("the store answers")
        self._first_look.set()

    async def show(self, _: Request) -> Response:
        """`GET /readyz`. Asks nothing: it tells what the last look found, and how ends made elsewhere arrive here."""
        ready, reason = self.ready, self.reason
        move = {} if self.move is None else {"move": self.move()}
        return JSONResponse(
            {"ready": ready, "reason": reason, "ends": self._manager.watches.channel, **move},
            200 if ready else 503,
            {"Cache-Control": "no-store", **({} if ready else {"Retry-After": "1"})},
        )

    async def _run(self) -> None:
        while True:
            await self.look()
            await self._pause(INTERVAL)


async def alive(_: Request) -> Response:
    """`GET /healthz`: the process answers. It never asks the store."""
    return JSONResponse({"alive": True}, headers={"Cache-Control": "no-store"})
