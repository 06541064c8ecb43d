"""What becomes of the users in a run with many sockets: each has a few sessions, and one fate."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx2

from tests.api.api import APPLICATION, OPERATOR, bearer
from tests.sockets.crowd import Member

#: Live sessions of one user, and the cap on them.
SESSIONS_EACH = 3


class Fates:
    """Does to users what befalls them, over HTTP, at a server that their sockets need not be connected to."""

    def __init__(self, servers: Sequence[httpx2.AsyncClient], chance: random.Random) -> None:
        self._servers = servers
        self._chance = chance
        self.all: Mapping[str, Callable[[Sequence[Member]], Awaitable[None]]] = {
            "stays": self.stays,
            "rotates": self.rotates,
            "logs out": self.logs_out,
            "is revoked": self.is_revoked,
            "is disabled": self.is_disabled,
            "logs in again": self.logs_in_again,
        }

    async def meet(self, users: Mapping[str, tuple[str, Sequence[Member]]], seconds: float) -> None:
        """Let each user meet its fate (its name and the user's sessions) at some moment within so many seconds."""

        async def later(fate: str, members: Sequence[Member]) -> None:
            # Fate comes at any moment.
            await asyncio.sleep(self._chance.uniform(0.0, seconds))
            await self.all[fate](members)

        await asyncio.gather(*(later(fate, members) for fate, members in users.values()))

    async def stays(self, members: Sequence[Member]) -> None:
        """Its tokens are validated now and then, which counts beside its messages."""
        for member in members:
            await self._validate(member)

    async def rotates(self, members: Sequence[Member]) -> None:
        """It gets new tokens, twice; its sockets stay, and the new token opens what the old one did."""
        for member in members:
            for _ in range(2):
                made = await self._ask(200, "POST", "sessions/current/rotate", member.token)
                assert made["id"] == member.id
                member.token = made["token"]
            await self._validate(member)

    async def logs_out(self, members: Sequence[Member]) -> None:
        """One of its sessions logs out with its own token."""
        member = self._chance.choice(members)
        await self._ask(204, "DELETE", "sessions/current", member.token)
        member.over("revoked")

    async def is_revoked(self, members: Sequence[Member]) -> None:
        """The operator ends two of its sessions by id."""
        for member in self._chance.sample(list(members), 2):
            await self._ask(204, "DELETE", f"sessions/{member.id}", OPERATOR)
            member.over("revoked")

    async def is_disabled(self, members: Sequence[Member]) -> None:
        """The application ends all of its sessions in one call."""
        ended = await self._ask(200, "DELETE", f"users/{members[0].user}/sessions", APPLICATION)
        assert ended == {"revoked": len(members)}
        for member in members:
            member.over("revoked")

    async def logs_in_again(self, members: Sequence[Member]) -> None:
        """Each new session, above the cap, takes the place of its oldest one."""
        for member in members[: self._chance.randint(1, len(members))]:
            await self._ask(201, "POST", "sessions", APPLICATION, json={"user_id": member.user})
            member.over("evicted")

    async def _validate(self, member: Member) -> None:
        found = await self._ask(200, "POST", "sessions/validate", APPLICATION, json={"token": member.token})
        assert found["session"]["id"] == member.id
        member.acknowledged += 1

    async def _ask(self, expected: int, method: str, path: str, credential: str, **options: Any) -> Any:
        server = self._chance.choice(self._servers)
        while True:
            answer = await server.request(method, f"/api/v1/{path}", headers=bearer(credential), **options)
            if (answer.status_code, answer.json().get("error") if answer.content else "") != (503, "overloaded"):
                break
            # Nothing was done, it says: on a machine that has too much to do a client comes back in a moment.
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        assert answer.status_code == expected, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None
