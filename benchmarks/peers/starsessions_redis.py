"""B4: starsessions on Redis: its session handler's load and save, as its middleware calls them for every request.

`RedisStore` on redis's asynchronous client with hiredis, rolling expiry, JSON as its default serializer writes it;
the application counts the request itself, in the session. Nothing is kept on disk. No HTTP: neither the middleware's
headers nor a server are measured. Two requests of one session at once lose a count.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import Any, Self

from benchmarks.callers import Sample, load
from benchmarks.peers.missing import PeerMissing
from benchmarks.peers.redis_server import RedisServer
from benchmarks.subject import METADATA
from tests.support.ports import LOOPBACK

LIFETIME = 86_400
PREFIX = "starsessions."


class StarsessionsRedis:
    """The peer on a server of its own."""

    name = "starsessions on Redis"

    def __init__(self, store: Any, client: Any, ids: Sequence[str]) -> None:
        from starsessions.serializers import JsonSerializer
        from starsessions.session import SessionHandler

        self._store = store
        self._client = client
        self._ids = ids
        self._handler = SessionHandler
        self._serializer = JsonSerializer()

    @classmethod
    async def open(cls, server: RedisServer, number: int) -> Self:
        """Fill the server with so many sessions. Raises `PeerMissing`."""
        try:
            from redis.asyncio import Redis
            from starsessions.stores.redis import RedisStore
        except ModuleNotFoundError as error:
            raise PeerMissing(f"B4 has no starsessions: {error.name} is not installed") from error
        client = Redis(host=LOOPBACK, port=server.port)
        peer = cls(RedisStore(connection=client, prefix=PREFIX), client, [secrets.token_hex(16) for _ in range(number)])
        data = {"user_id": "user-1", "data": METADATA, "request_count": 0, "created_at": "2026-11-29T12:00:00Z"}
        metadata = {"lifetime": LIFETIME, "created": 0.0, "last_access": 0.0}
        text = json.dumps({**data, "__metadata__": metadata}).encode()
        for start in range(0, number, 1_000):
            async with client.pipeline(transaction=False) as pipeline:
                for id in peer._ids[start : start + 1_000]:
                    pipeline.set(PREFIX + id, text, ex=LIFETIME)
                await pipeline.execute()
        return peer

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()
        await asyncio.sleep(0)

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._validate, self._ids, callers, seconds)

    async def _validate(self, id: str) -> object:
        from starlette.requests import HTTPConnection

        connection = HTTPConnection({"type": "http", "headers": []})
        handler = self._handler(connection, id, self._store, self._serializer, LIFETIME)
        await handler.load()
        session = connection.session
        assert session
        session["request_count"] += 1
        await handler.save(LIFETIME)
        return session["user_id"], session["data"]["lang"], session["created_at"], session["request_count"]
