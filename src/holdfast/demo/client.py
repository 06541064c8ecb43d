"""One client of the demonstration: logs in, keeps a socket open, writes, and believes nothing but its answers."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from holdfast.demo.asking import LOOPBACK, TIMEOUT_SECONDS, Answer, ask
from holdfast.demo.journal import Entry, Journal
from holdfast.demo.tally import Tally

_PAUSE_SECONDS: Final = 1.0
"""Between two writes of a client, on average."""
_RETRY_SECONDS: Final = 0.2
_LEAVING_SECONDS: Final = 2.0
_SESSION_IS_OVER: Final = frozenset((3000, 4401, 4403, 4409))
_ABNORMAL: Final = 1006


@dataclass(slots=True)
class Login:
    """A session of a client."""

    id: str
    token: str
    n: int = 0


@dataclass(slots=True)
class Client:
    """One user with one socket, and now and then a second device."""

    name: str
    port: int
    credential: str
    """The application's, with which it begins and validates sessions for its users."""
    journal: Journal
    tally: Tally
    stop: asyncio.Event
    chance: random.Random = field(default_factory=random.Random)
    _others: list[Login] = field(default_factory=list)
    _socket: ClientConnection | None = None

    async def live(self, token: str | None) -> None:
        """From log-in to the last look. A token is one that another application issued to this user."""
        login = await self._log_in() if token is None else await self._known(token)
        if login is None:
            return
        await self._connected(login)
        self.tally.connected += 1
        while not self.stop.is_set():
            await self._pause(self.chance.uniform(0.5, 1.5) * _PAUSE_SECONDS)
            step = self.chance.random()
            if step < 0.75:
                await self._say(login)
            elif step < 0.9:
                await self._change(login)
            else:
                await self._use_another_device()
        # Not all at once: a storm at the end would say nothing about the move.
        await asyncio.sleep(self.chance.uniform(0, _LEAVING_SECONDS))
        for each in (login, *self._others):
            await self._look(each)
        if self._socket is not None:
            await self._close(self._socket, login)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return

    # What it writes

    async def _log_in(self) -> Login | None:
        """A new session; `None` when it is time to leave before there is one."""
        body = {"user_id": self.name, "metadata": {"n": 0}}
        while not self.stop.is_set():
            answer = await self._asked("created", "-", "POST", "/api/v1/sessions", self.credential, body)
            if answer is not None and answer.status == 201:
                return Login(answer.body["id"], answer.body["token"])
            await self._pause(_RETRY_SECONDS)
        return None

    async def _known(self, token: str) -> Login | None:
        """The session that a token opens: somebody else began it."""
        while not self.stop.is_set():
            with suppress(OSError):
                answer = await ask(self.port, "GET", "/api/v1/sessions/current", token)
                if answer.status == 200:
                    return Login(answer.body["id"], token)
            await self._pause(_RETRY_SECONDS)
        return None

    async def _connected(self, login: Login) -> None:
        """Open the socket. Several attempts may be needed while the server says that nothing was done."""
        while self._socket is None and not self.stop.is_set():
            headers = {"Authorization": f"Bearer {login.token}"}
            began = time.monotonic()
            try:
                # No proxy: it would be this machine's. No pings: what keeps a socket open here is what it is used for.
                self._socket = await connect(
                    f"ws://{LOOPBACK}:{self.port}/ws",
                    additional_headers=headers,
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                    open_timeout=TIMEOUT_SECONDS,
                )
            except InvalidStatus as refusal:
                over = refusal.response.status_code in (401, 403)
                self._note("logged out" if over else "refused", login.id, began, of="opened")
                await self._pause(_RETRY_SECONDS)
            except (OSError, InvalidHandshake):
                self._note("unknown", login.id, began, of="opened")
                await self._pause(_RETRY_SECONDS)
            else:
                self.tally.open += 1
                self._note("opened", login.id, began)

    async def _say(self, login: Login) -> None:
        """A message that comes back: the server validates the session before it sends it."""
        await self._connected(login)
        socket, began = self._socket, time.monotonic()
        if socket is None:
            return
        text = f"{self.name} {began}"
        self.tally.waiting += 1
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await socket.send(text)
                while await socket.recv() != text:
                    # The answer to a message that was given up.
                    continue
        except ConnectionClosed as closed:
            self._socket, code = None, _ABNORMAL if closed.rcvd is None else closed.rcvd.code
            self.tally.open -= 1
            self._note("unknown", login.id, began, of="echoed")
            self._note("dropped", login.id, began, code=code)
            if code in _SESSION_IS_OVER:
                self._note("logged out", login.id, began, of="echoed")
        except TimeoutError:
            self._note("unknown", login.id, began, of="echoed")
        else:
            self._note("echoed", login.id, began)
        finally:
            self.tally.waiting -= 1

    async def _change(self, login: Login) -> None:
        login.n += 1
        body = {"changes": {"n": login.n}}
        await self._asked("changed", login.id, "PATCH", "/api/v1/sessions/current/metadata", login.token, body, login.n)

    async def _use_another_device(self) -> None:
        """Log in once more, be validated, and log out of most of these again."""
        other = await self._log_in()
        if other is None:
            return
        body = {"token": other.token}
        await self._asked("validated", other.id, "POST", "/api/v1/sessions/validate", self.credential, body)
        if self.chance.random() < 0.3:
            self._others.append(other)
            return
        await self._asked("ended", other.id, "DELETE", "/api/v1/sessions/current", other.token)

    async def _look(self, login: Login) -> None:
        """The last look: whether the session is still logged in."""
        began = time.monotonic()
        for _ in range(25):
            try:
                answer = await ask(self.port, "GET", "/api/v1/sessions/current", login.token)
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if answer.status == 200:
                self._note("seen", login.id, began)
                return
            if answer.status == 401:
                self._note("logged out", login.id, began, of="seen")
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _close(self, socket: ClientConnection, login: Login) -> None:
        began = time.monotonic()
        try:
            # A socket that somebody closed since the last message would not pass this.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await (await socket.ping())
        except (ConnectionClosed, TimeoutError) as error:
            closed = error.rcvd if isinstance(error, ConnectionClosed) else None
            self._note("dropped", login.id, began, code=_ABNORMAL if closed is None else closed.code)
        else:
            await socket.close()
            self._note("closed", login.id, began)
        self.tally.open -= 1

    # How it asks and what it writes down

    async def _asked(
        self, what: str, id: str, method: str, path: str, bearer: str, body: object = None, n: int = 0
    ) -> Answer | None:
        """Ask until there is an answer that says more than that nothing was done; `None` when there is none."""
        began = time.monotonic()
        self.tally.waiting += 1
        try:
            while True:
                try:
                    answer = await ask(self.port, method, path, bearer, body)
                except OSError:
                    answer = None
                if answer is None or answer.body.get("error") == "outcome_unknown":
                    self._note("unknown", id, began, of=what, n=n)
                    return None
                if answer.status < 300:
                    over = answer.body.get("active") is False
                    known = answer.body["id"] if what == "created" else id
                    self._note("logged out" if over else what, known, began, n=n, of=what if over else "")
                    return answer
                if answer.status in (401, 404):
                    self._note("logged out", id, began, of=what)
                    return answer
                self._note("refused", id, began, of=what)
                if self.stop.is_set() and time.monotonic() - began > TIMEOUT_SECONDS:
                    return None
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self.tally.waiting -= 1

    def _note(self, what: str, id: str, began: float, **more: Any) -> None:
        entry = Entry(what, id, round((time.monotonic() - began) * 1000, 1), **more)
        self.journal.note(entry)
        self.tally.count(entry)
