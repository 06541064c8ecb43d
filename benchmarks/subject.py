"""Holdfast itself, as an application uses it."""

import asyncio
import time
from collections.abc import Sequence

from benchmarks.callers import Sample, load
from holdfast import SessionManager

METADATA = {"lang": "ko", "theme": "dark", "cart": [1, 2, 3]}


class Holdfast:
    """`validate_session` on a manager with its defaults, every field of the answer read."""

    def __init__(self, name: str, sessions: SessionManager, tokens: Sequence[str]) -> None:
        self.name = name
        self._sessions = sessions
        self._tokens = tokens

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._validate, self._tokens, callers, seconds)

    async def _validate(self, token: str) -> object:
        session = await self._sessions.validate_session(token)
        assert session is not None
        return (
            *(session.id, session.user_id, session.metadata["lang"], session.created_at, session.expires_at),
            *(session.last_activity, session.request_count),
        )


class HoldfastCreates:
    """`create_session` on a manager with its defaults, for users that return now and then."""

    def __init__(self, name: str, sessions: SessionManager) -> None:
        self.name = name
        self._sessions = sessions
        self._users = [f"user-{number}" for number in range(10_000)]

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._create, self._users, callers, seconds)

    async def _create(self, user: str) -> object:
        new = await self._sessions.create_session(user, METADATA)
        return new.token, new.expires_at, new.id


async def fill(sessions: SessionManager, number: int, callers: int) -> tuple[list[str], float]:
    """Create so many sessions; their tokens, and how many a second that were (each one durable)."""
    tokens: list[str] = []
    left = iter(range(number))
    began = time.perf_counter()

    async def caller() -> None:
        for each in left:
            tokens.append((await sessions.create_session(f"user-{each}", METADATA)).token)  # noqa: PERF401 - all callers share one list

    await asyncio.gather(*(caller() for _ in range(callers)))
    return tokens, number / (time.perf_counter() - began)
