"""The clients over HTTP: each asks one thing after another, and writes down what it was told.

What a client does next is drawn from the seed: four draws for every step, whatever came before. Which session that
concerns depends on who is there at that moment, and so on the machine.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import httpx2

from holdfast.sessions.tokens import new_ticket, new_token
from tests.chaos.history import Call, CallKind, History
from tests.chaos.population import Held, Population, chosen
from tests.chaos.world import APPLICATION, OPERATOR, World

MOST_CALLS: Final = 400_000
"""After so many calls the clients stop: what is written down has to fit into memory."""

_FEW: Final = 12
_MANY: Final = 60
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)
_CERTAINLY_NOT_DONE: Final = ("unavailable", "overloaded", "moved")
_REFUSED: Final = (401, 404)

# What clients do, and how often of a hundred times.
_WEIGHTS: Final[dict[str, float]] = {
    "create": 9,
    "validate": 34,
    "validate a spent token": 8,
    "current": 6,
    "rotate": 7,
    "extend": 6,
    "metadata": 6,
    "forget": 4,
    "end": 1.5,
    "end_own": 1.5,
    "end_device": 1.5,
    "revoke": 0.6,
    "ticket": 1,
    "stats": 3,
    "forge": 8,
}


@dataclass(slots=True)
class Step:
    """The dice of one step."""

    what: str
    who: float
    how: float
    pause: float


def steps(seed: int, client: int, mean_pause: float) -> "StepSource":
    """The endless steps of one client."""
    return StepSource(random.Random(f"{seed} client {client}"), mean_pause)


class StepSource:
    """Draws step after step."""

    def __init__(self, dice: random.Random, mean_pause: float) -> None:
        """Begin."""
        self._dice = dice
        self._mean = mean_pause
        self._whats, self._weights = list(_WEIGHTS), list(_WEIGHTS.values())

    def __next__(self) -> Step:
        """The next one."""
        dice = self._dice
        (what,) = dice.choices(self._whats, self._weights)
        return Step(what, dice.random(), dice.random(), min(1.0, dice.expovariate(1 / self._mean)))

    def __iter__(self) -> "StepSource":
        return self


class Api:
    """Calls to the servers. Nothing is repeated, and nothing gives up by itself: that is the servers' to do."""

    def __init__(self, world: World) -> None:
        """Prepare a client for each server; use it as a context."""
        self.world = world
        self.history: History = world.history
        # Kept shorter than the servers keep them: a connection that one side is just closing says nothing about either.
        limits = httpx2.Limits(keepalive_expiry=2.0)
        self._clients = [
            httpx2.AsyncClient(base_url=each.address, timeout=None, limits=limits) for each in world.servers
        ]

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.aclose()

    async def call(
        self, kind: CallKind, server: int, method: str, path: str, bearer: str, body: Any = None, **known: Any
    ) -> tuple[Call, dict[str, Any]]:
        """One call, written down; with what its answer held."""
        time = asyncio.get_running_loop().time
        call = Call(len(self.history.calls), kind, server, time(), **known)
        self.history.calls.append(call)
        if kind == "create":
            body["metadata"] = {"by": call.number}
        content: dict[str, Any] = {}
        try:
            answer = await self._clients[server].request(
                method, f"/api/v1{path}", headers={"Authorization": f"Bearer {bearer}"}, json=body
            )
            content = _content(answer)
        except _NOT_SENT as error:
            call.outcome, call.status = "failed", type(error).__name__
        except httpx2.TransportError as error:
            call.outcome, call.status = "unknown", type(error).__name__
        else:
            _judge(call, answer.status_code, content)
        call.ended = time()
        if call.outcome == "ok":
            self._note(call, content)
        return call, content

    def _note(self, call: Call, content: dict[str, Any]) -> None:
        """What an answer says that is checked later."""
        session = content.get("session") or content
        call.answered = session.get("id", call.answered)
        if call.kind == "create":
            call.session = call.answered
        if "expires_at" in session and call.kind != "ticket":
            call.expires_at = self.world.clock(_epoch(session["expires_at"]))
        if "last_activity" in session:
            call.last_activity = self.world.clock(_epoch(session["last_activity"]))
        call.count = session.get("request_count", content.get("active_sessions", content.get("revoked")))


def _content(answer: httpx2.Response) -> dict[str, Any]:
    """The body of an answer; nothing when it is no object of JSON, which is a fault unless there need be none."""
    try:
        content = answer.json() if answer.content else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _judge(call: Call, status: int, content: dict[str, Any]) -> None:
    """Put an answer into one of the outcomes that a call may have; anything else is a fault."""
    error = content.get("error", "")
    call.status = f"{status} {error}".strip()
    if 200 <= status < 300:
        call.outcome = "refused" if content.get("active") is False else "ok"
    elif status in _REFUSED:
        call.outcome = "refused"
    elif status == 503 and error == "outcome_unknown":
        call.outcome = "unknown"
    elif status == 503 and error in _CERTAINLY_NOT_DONE:
        call.outcome = "failed"
    else:
        call.outcome = "fault"


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Client:
    """One client: an endless series of steps until it is told to stop."""

    def __init__(self, number: int, api: Api, population: Population, source: StepSource) -> None:
        """Prepare it."""
        self._number = number
        self._api = api
        self._people = population
        self._source = source
        self._writes = 0
        self._acts: dict[str, Callable[[Step, int, Held], Awaitable[None]]] = {
            "validate": self._validate,
            "current": self._current,
            "rotate": self._rotate,
            "extend": self._extend,
            "metadata": self._metadata,
            "end": self._end,
            "end_own": self._end_own,
            "end_device": self._end_device,
            "revoke": self._revoke,
            "ticket": self._ticket,
            "forget": self._forget,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Act until told to stop."""
        for step in self._source:
            if stop.is_set() or len(self._api.history.calls) >= MOST_CALLS:
                return
            await self.act(step)
            try:
                async with asyncio.timeout(step.pause):
                    await stop.wait()
            except TimeoutError:
                continue

    async def act(self, step: Step) -> None:
        """One step. With too few sessions it makes one instead, with too many it makes none."""
        # Always the same one: a server that is frozen must not take all clients with it, one after the other.
        server = self._number % self._api.world.count
        held = self._people.pick(step.who)
        if step.what == "stats":
            await self._api.call("stats", server, "GET", "/stats", OPERATOR)
        elif step.what == "forge":
            await self._forge(step, server)
        elif step.what == "validate a spent token":
            if (spent := self._people.pick_spent(step.who)) is not None:
                await self._validate(step, server, spent)
        elif (
            held is None or len(self._people.held) < _FEW or (step.what == "create" and len(self._people.held) < _MANY)
        ):
            await self._create(step, server)
        elif step.what != "create":
            await self._acts[step.what](step, server, held)

    async def _create(self, step: Step, server: int) -> None:
        user = chosen(self._people.users, step.who) or ""
        call, content = await self._api.call(
            "create", server, "POST", "/sessions", APPLICATION, {"user_id": user}, user=user, client=self._number
        )
        if call.outcome == "ok":
            self._people.issued(content["id"], user, content["token"], call.ended)

    async def _validate(self, step: Step, server: int, held: Held) -> None:
        call, _ = await self._about(held, "validate", server, "POST", "/sessions/validate", APPLICATION, held)
        if call.outcome == "refused":
            self._lost(held)

    async def _current(self, step: Step, server: int, held: Held) -> None:
        call, _ = await self._about(held, "current", server, "GET", "/sessions/current", held.secret)
        if call.outcome == "refused":
            self._lost(held)

    async def _rotate(self, step: Step, server: int, held: Held) -> None:
        call, content = await self._about(held, "rotate", server, "POST", "/sessions/current/rotate", held.secret)
        if call.outcome == "ok":
            call.made = self._people.issued(held.session, held.user, content["token"], call.ended).number
        elif call.outcome == "unknown":
            # Somebody may have a successor, and it is not us.
            self._lost(held)

    async def _extend(self, step: Step, server: int, held: Held) -> None:
        hours = (0.2 + step.how) * self._api.history.rules.lifetime / 3600
        await self._about(held, "extend", server, "POST", f"/sessions/{held.session}/extend", APPLICATION, hours=hours)

    async def _metadata(self, step: Step, server: int, held: Held) -> None:
        self._writes += 1
        key = f"w{self._number}"
        await self._about(
            held,
            *("metadata", server, "PATCH", f"/sessions/{held.session}/metadata", APPLICATION),
            changes={key: self._writes},
            key=key,
            value=self._writes,
        )

    async def _end(self, step: Step, server: int, held: Held) -> None:
        call, _ = await self._about(held, "end", server, "DELETE", f"/sessions/{held.session}", OPERATOR)
        if call.outcome in ("ok", "refused"):
            self._people.lose(held.session)

    async def _end_own(self, step: Step, server: int, held: Held) -> None:
        call, _ = await self._about(held, "end_own", server, "DELETE", "/sessions/current", held.secret)
        if call.outcome in ("ok", "refused"):
            self._lost(held)

    async def _end_device(self, step: Step, server: int, held: Held) -> None:
        others = [each for each in self._people.held.values() if each.user == held.user and each is not held]
        if (other := chosen(others, step.how)) is not None:
            path = f"/sessions/current/devices/{other.session}"
            call, _ = await self._about(held, "end_device", server, "DELETE", path, held.secret, target=other.session)
            if call.outcome == "ok":
                self._people.lose(other.session)

    async def _revoke(self, step: Step, server: int, held: Held) -> None:
        kept = f"?keep={held.session}" if step.how < 0.5 else ""
        call, _ = await self._api.call(
            *("revoke", server, "DELETE", f"/users/{held.user}/sessions{kept}", APPLICATION),
            user=held.user,
            target=held.session if kept else None,
            client=self._number,
        )
        if call.outcome == "ok":
            for each in [each for each in self._people.held.values() if each.user == held.user]:
                if each.session != call.target:
                    self._people.lose(each.session)

    async def _ticket(self, step: Step, server: int, held: Held) -> None:
        await self._about(held, "ticket", server, "POST", "/sessions/current/ticket", held.secret)

    async def _forget(self, step: Step, server: int, held: Held) -> None:
        """Leave it alone, so that it runs out by itself; a socket may be open on it."""
        self._people.forget(held)

    async def _forge(self, step: Step, server: int) -> None:
        """Present what was never issued, in some place that takes a token."""
        held = self._people.pick(step.who)
        forged = {
            "a token of the right form": new_token(),
            "a ticket as a token": new_ticket(),
            "nothing": "",
            "an id": held.session if held else "x",
            "a digest": sha256(held.secret.encode()).hexdigest() if held else "x",
            "a token with another letter": _misspelt(held.secret) if held else "x",
        }
        key = chosen(sorted(forged), step.how) or ""
        secret = forged[key]
        places = ["/sessions/current", "/sessions/validate", "/sessions/current/rotate", "/sessions/current/ticket"]
        path = chosen(places, step.how * 7 % 1.0) or ""
        if path == "/sessions/validate":
            await self._api.call("forged", server, "POST", path, APPLICATION, {"token": secret}, key=key)
        else:
            method = "GET" if path == "/sessions/current" else "POST"
            await self._api.call("forged", server, method, path, secret or "x", key=key)

    async def _about(
        self,
        held: Held,
        kind: CallKind,
        server: int,
        method: str,
        path: str,
        bearer: str,
        validated: Held | None = None,
        *,
        hours: float | None = None,
        changes: dict[str, Any] | None = None,
        **known: Any,
    ) -> tuple[Call, dict[str, Any]]:
        """A call about a session that is held."""
        body: dict[str, Any] | None = None
        if validated is not None:
            body = {"token": validated.secret}
        elif hours is not None:
            body = {"hours": hours}
        elif changes is not None:
            body = {"changes": changes}
        return await self._api.call(
            *(kind, server, method, path, bearer, body),
            session=held.session,
            user=held.user,
            token=held.number,
            client=self._number,
            **known,
        )

    def _lost(self, held: Held) -> None:
        """Its token opens nothing any more; unless another client has replaced it meanwhile, nobody holds it now."""
        if self._people.held.get(held.session) is held:
            self._people.lose(held.session)


def _misspelt(secret: str) -> str:
    letter = "a" if secret[10] != "a" else "b"
    return f"{secret[:10]}{letter}{secret[11:]}"
