"""B2, B5, B6: one asyncpg `UPDATE … RETURNING` per call, as an application without Holdfast would write it well.

The same table with the same rows and indexes, a prepared statement (asyncpg's own cache), autocommit, no library in
between. The pool size is searched: the best of `POOL_SIZES` on this machine is the peer. The pool does not reset its
connections between two calls, which by default would cost it a second round trip for each.

Alone, for B6, it has one connection and no pool.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Self

import asyncpg

from benchmarks.callers import Sample, load

POOL_SIZES = (8, 16, 32, 64, 80)

_STATEMENT = """\
UPDATE {schema}.sessions
SET request_count = request_count + 1, last_activity = greatest(last_activity, clock_timestamp())
WHERE digest = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()
RETURNING id, user_id, metadata, created_at, expires_at, last_activity, request_count"""


class AsyncpgUpdate:
    """The peer with a pool of one size."""

    def __init__(self, pool: "asyncpg.Pool[Any]", size: int, schema: str, tokens: Sequence[str]) -> None:
        self.name = f"asyncpg, pool of {size}"
        self.size = size
        self._pool = pool
        self._statement = _STATEMENT.format(schema=schema)
        self._tokens = tokens

    @classmethod
    async def open(cls, address: str, size: int, schema: str, tokens: Sequence[str]) -> Self:
        """Connect all of its connections."""
        pool = await asyncpg.create_pool(address, min_size=size, max_size=size, reset=_no_reset)
        return cls(pool, size, schema, tokens)

    @classmethod
    async def best(cls, address: str, schema: str, tokens: Sequence[str], callers: int, seconds: float) -> Self:
        """The one with the best pool size, each tried for a moment."""
        rates: dict[int, float] = {}
        for size in POOL_SIZES:
            # More connections than callers are never used.
            if size <= callers or not rates:
                tried = await cls.open(address, size, schema, tokens)
                # Once unmeasured, so that every connection has its statement prepared.
                await tried.measure(callers, seconds / 3)
                rates[size] = (await tried.measure(callers, seconds)).per_second
                await tried.close()
        return await cls.open(address, max(rates, key=rates.__getitem__), schema, tokens)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._validate, self._tokens, callers, seconds)

    async def _validate(self, token: str) -> object:
        async with self._pool.acquire() as connection:
            return await _validate(connection, self._statement, token)


class AsyncpgAlone:
    """The peer of one caller: one connection."""

    name = "asyncpg, one connection"

    def __init__(self, connection: "asyncpg.Connection[Any]", schema: str, tokens: Sequence[str]) -> None:
        self._connection = connection
        self._statement = _STATEMENT.format(schema=schema)
        self._tokens = tokens

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        assert callers == 1
        return await load(self._validate, self._tokens, callers, seconds)

    async def _validate(self, token: str) -> object:
        return await _validate(self._connection, self._statement, token)


async def _validate(connection: Any, statement: str, token: str) -> object:
    row = await connection.fetchrow(statement, hashlib.sha256(token.encode()).digest())
    assert row is not None
    id, user_id, metadata, created_at, expires_at, last_activity, request_count = row
    return str(id), user_id, json.loads(metadata)["lang"], created_at, expires_at, last_activity, request_count


async def _no_reset(_: object) -> None:
    """Nothing to take back: the statement leaves no trace on its connection."""
