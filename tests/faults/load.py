"""A load that writes down what it was told, to be compared with the database when the fault is over."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from holdfast import OutcomeUnknown, SessionManager, StoreUnavailable
from tests.faults.bench import Truth
from tests.support.polling import eventually
from tests.support.stopwatch import Stopwatch

Answer = TypeVar("Answer")


class Load:
    """Callers that create, validate and revoke until they are stopped.

    I-1, I-2, I-14 and promise 5 are checked by `agrees`: what was acknowledged is there, what was revoked stays so,
    and each count lies between what was acknowledged and that plus what is unknown.
    """

    def __init__(self, manager: SessionManager, seed: int = 1) -> None:
        self.manager = manager
        self.random = random.Random(seed)
        self.tokens: list[str] = []
        self.ids: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.perhaps_revoked: set[str] = set()
        self.validated: Counter[str] = Counter()
        self.perhaps_validated: Counter[str] = Counter()
        self.longest = 0.0
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.last_failure = 0.0

    async def prepare(self, sessions: int = 10) -> None:
        """Make some sessions before anything breaks."""
        for _ in range(sessions):
            new = await self.manager.create_session(user_id="load")
            self.tokens.append(new.token)
            self.ids[new.token] = new.id

    @asynccontextmanager
    async def running(self, callers: int = 8) -> AsyncIterator[None]:
        """Callers at work for as long as the block lasts."""
        stopped = asyncio.Event()

        async def caller() -> None:
            while not stopped.is_set():
                await self.one()
                # The pace of a caller.
                await asyncio.sleep(0.002)

        tasks = [asyncio.create_task(caller()) for _ in range(callers)]
        try:
            yield
        finally:
            stopped.set()
            await asyncio.gather(*tasks)

    async def answers(self, count: int = 50) -> None:
        """Wait until so many more calls had an answer."""
        goal = self.answered + count
        await eventually(lambda: self.answered >= goal, what=f"{count} more answers")

    async def one(self) -> None:
        """One call at random."""
        chance = self.random.random()
        token = self.random.choice(self.tokens)
        if chance < 0.15:
            new = await self._timed(self.manager.create_session(user_id="load"))
            if isinstance(new, tuple):
                self.tokens.append(new.token)
                self.ids[new.token] = new.id
        elif chance < 0.2 and len(self.tokens) > 5 and token not in self.perhaps_revoked:
            self.perhaps_revoked.add(token)
            if await self._timed(self.manager.delete_session(token)) is True:
                self.revoked.add(token)
        else:
            dead = token in self.revoked
            outcome = await self._timed(self.manager.validate_session(token))
            if outcome is OutcomeUnknown:
                self.perhaps_validated[token] += 1
            elif not isinstance(outcome, type):
                assert not (dead and outcome is not None), "I-1: a revoked session validated"
                assert outcome is not None or token in self.perhaps_revoked, "I-2: a live session was not found"
                if outcome is not None:
                    assert outcome.id == self.ids[token], "I-15: somebody else's answer"
                    self.validated[token] += 1

    async def _timed(self, call: Awaitable[Answer]) -> "Answer | type[StoreUnavailable]":
        watch = Stopwatch()
        try:
            answer = await call
        except StoreUnavailable as error:
            self.failures[type(error).__name__] += 1
            self.texts[str(error).partition(" at ")[2].partition(" ")[2] or str(error)] += 1
            self.last_failure = asyncio.get_running_loop().time()
            return OutcomeUnknown if isinstance(error, OutcomeUnknown) else StoreUnavailable
        else:
            self.answered += 1
            return answer
        finally:
            self.longest = max(self.longest, watch.seconds)

    async def agrees(self, facts: Truth) -> None:
        """Compare with the database."""
        for token in self.tokens:
            row = await facts.row(token)
            assert row is not None, "I-2: an acknowledged create is lost"
            low = self.validated[token]
            assert low <= row["request_count"] <= low + self.perhaps_validated[token], "promise 5"
            if token in self.revoked:
                assert row["ended_at"] is not None, "I-1: an acknowledged revocation is lost"
            elif token not in self.perhaps_revoked:
                assert row["ended_at"] is None
                assert await self.manager.get_session(token) is not None
