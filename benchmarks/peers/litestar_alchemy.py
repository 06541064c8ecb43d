"""B4: Litestar's server-side sessions in PostgreSQL: advanced-alchemy's `SQLAlchemyAsyncSessionBackend`.

What Litestar's session middleware calls for every request: `get` on the way in, which reads the session, moves its
expiry and commits, and `set` on the way out, which writes it and commits; the application counts the request itself,
in the session. SQLAlchemy on asyncpg; the pool size is searched: the best of `POOL_SIZES` is the peer. No HTTP.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import uuid4

import asyncpg

from benchmarks.callers import Sample, load
from benchmarks.peers.missing import PeerMissing
from benchmarks.subject import METADATA

POOL_SIZES = (8, 16, 32, 64)
MAX_AGE = 86_400


class LitestarAlchemy:
    """The peer with a pool of one size."""

    def __init__(self, address: str, schema: str, size: int, ids: Sequence[str]) -> None:
        from advanced_alchemy.extensions.litestar import EngineConfig, SQLAlchemyAsyncConfig
        from advanced_alchemy.extensions.litestar.session import SQLAlchemyAsyncSessionBackend
        from litestar.middleware.session.server_side import ServerSideSessionConfig

        self.name = f"Litestar with advanced-alchemy, pool of {size}"
        self._config = SQLAlchemyAsyncConfig(
            connection_string=f"postgresql+asyncpg://{address.partition('://')[2]}",
            engine_config=EngineConfig(
                pool_size=size,
                max_overflow=0,
                # Calls wait for a connection as long as they must.
                pool_timeout=300,
                connect_args={"server_settings": {"search_path": schema}},
            ),
        )
        self._backend = SQLAlchemyAsyncSessionBackend(
            config=ServerSideSessionConfig(max_age=MAX_AGE), alchemy_config=self._config, model=_model()
        )
        self._ids = ids

    @classmethod
    async def best(cls, address: str, schema: str, number: int, callers: int, seconds: float) -> Self:
        """Fill a schema, and take the best pool size, each tried for a moment. Raises `PeerMissing`."""
        try:
            model = _model()
        except ModuleNotFoundError as error:
            raise PeerMissing(f"B4 has no Litestar: {error.name} is not installed") from error
        ids = [secrets.token_hex(32) for _ in range(number)]
        maker = cls(address, schema, 1, ids)
        async with maker._config.get_engine().begin() as connection:
            await connection.run_sync(model.metadata.create_all)
        await maker.close()
        await _fill(address, schema, model.__tablename__, ids)
        rates: dict[int, float] = {}
        for size in POOL_SIZES:
            if size <= callers or not rates:
                tried = cls(address, schema, size, ids)
                await tried.measure(callers, seconds / 3)
                rates[size] = (await tried.measure(callers, seconds)).per_second
                await tried.close()
        return cls(address, schema, max(rates, key=rates.__getitem__), ids)

    async def close(self) -> None:
        """Disconnect."""
        await self._config.get_engine().dispose()

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._validate, self._ids, callers, seconds)

    async def _validate(self, id: str) -> object:
        data = await self._backend.get(id, store=None)
        assert data is not None
        session = self._backend.deserialize_data(data)
        session["request_count"] += 1
        await self._backend.set(id, data=self._backend.serialize_data(session), store=None)
        return session["user_id"], session["data"]["lang"], session["created_at"], session["request_count"]


_made: list[Any] = []


def _model() -> Any:
    """The model, which may be declared once in a process."""
    from advanced_alchemy.extensions.litestar.session import SessionModelMixin

    if not _made:
        _made.append(type("LitestarSession", (SessionModelMixin,), {"__tablename__": "litestar_sessions"}))
    return _made[0]


async def _fill(address: str, schema: str, table: str, ids: Sequence[str]) -> None:
    from litestar.serialization import encode_json

    session = {"user_id": "user-1", "data": METADATA, "request_count": 0, "created_at": "2026-11-29T12:00:00Z"}
    data = encode_json(session)
    expires_at = datetime.now(UTC) + timedelta(seconds=MAX_AGE)
    connection = await asyncpg.connect(address)
    try:
        await connection.copy_records_to_table(
            table,
            schema_name=schema,
            columns=["id", "session_id", "data", "expires_at"],
            records=((uuid4(), id, data, expires_at) for id in ids),
        )
        await connection.execute(f"ANALYZE {schema}.{table}")
    finally:
        await connection.close()
