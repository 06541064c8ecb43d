"""An end against everything that writes: the ended never come back (S-19)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from holdfast.sessions.manager import SessionManager
from tests.concurrency.place import Place, at_most

ROUNDS = [
    pytest.param(1_000, id="1000"),
    # The same seeds and nine times as many more.
    pytest.param(10_000, id="10000", marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
]
# Rounds under way at once: enough for full batches, few enough that no call waits long for a connection.
AT_ONCE = 12
# So often rotations may be before an end by token.
MISSES = 5
# The store in memory looks through all rows at every call, so it begins anew before they are many.
IN_A_BLOCK = 1_000


class Round:
    """One session, one end of it, and four clients that write to it until they have seen the end."""

    def __init__(self, seed: int, servers: list[SessionManager]) -> None:
        self.chance = random.Random(seed)
        self.servers = servers
        self.user = f"u{seed}"
        self.tokens: list[str] = []
        self.ended = False
        self.rotations = asyncio.Event()
        """Set while tokens may be rotated."""
        self.rotations.set()

    def server(self) -> SessionManager:
        """One of the servers, as the seed decides."""
        return self.chance.choice(self.servers)

    async def run(self) -> None:
        """Race; afterwards nothing opens the session, on any server."""
        new = await self.server().create_session(user_id=self.user)
        self.id = new.id
        self.tokens.append(new.token)
        touching, extending, merging = self.server(), self.server(), self.server()
        number = self.chance.randrange(1_000)
        calls: list[Callable[[], Awaitable[object]]] = [
            self.end,
            partial(self.until_refused, lambda: touching.validate_session(self.tokens[-1])),
            partial(self.until_refused, lambda: extending.extend_session(self.tokens[-1], 48)),
            partial(self.until_refused, lambda: merging.update_metadata(self.tokens[-1], {"n": number})),
            partial(self.until_refused, partial(self.rotate, self.server())),
        ]
        self.chance.shuffle(calls)
        await at_most(len(calls), calls)
        for server in set(self.servers):
            for token in self.tokens:
                assert await server.validate_session(token) is None
            assert await server.get_by_id(self.id) is None
        assert await self.server().why_ended(self.tokens[-1]) == "revoked"

    async def end(self) -> None:
        """End the session in one of three ways."""
        server = self.server()
        way = self.chance.choice(["id", "token", "user"])
        if way == "id":
            assert await server.end_session(self.id) is True
        elif way == "user":
            assert await server.revoke_user_sessions(self.user) == 1
        else:
            # A rotation may have replaced the token: its successor is on its way to us. Where the two keep step, the
            # next one has replaced that too by then, and so on for minutes: after some they let the end be.
            misses = 0
            while not await server.delete_session(self.tokens[-1]):
                misses += 1
                if misses == MISSES:
                    self.rotations.clear()
                await asyncio.sleep(0)
        self.ended = True
        self.rotations.set()

    async def rotate(self, server: SessionManager) -> bool:
        """Rotate the newest token, and remember the successor."""
        await self.rotations.wait()
        successor = await server.rotate_session(self.tokens[-1])
        if successor is not None:
            self.tokens.append(successor.token)
        return successor is not None

    async def until_refused(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat a call until one that began after the end was acknowledged; that one must be refused."""
        while True:
            # The store in memory answers without giving anybody else a turn, and an end takes one turn to get there:
            # a rotation in every single turn would always be before it.
            for _ in range(self.chance.randint(1, 4)):
                await asyncio.sleep(0)
            after_the_end = self.ended
            answer = await call()
            if after_the_end:
                assert not answer, f"{self.user} came back"
                return


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_the_ended_never_come_back(place: Place, rounds: int) -> None:
    """Whatever races an end from two servers: once acknowledged, every write on either is refused."""
    for first in range(0, rounds, IN_A_BLOCK):
        async with place.servers() as servers:
            await at_most(AT_ONCE, [Round(seed, servers).run for seed in range(first, first + IN_A_BLOCK)])
            for server in servers:
                assert await server.get_active_session_count() == 0
                assert await server.list_sessions() == []
    assert place.lost_locks() == []
