"""The plain ORM: select, look, update, commit, as the first application had planned its move to PostgreSQL.

SQLAlchemy's asynchronous ORM on asyncpg with the model of that plan (the token in clear as the primary key), a session
of the ORM for each call, `expire_on_commit=False`. The pool size is searched: the best of `POOL_SIZES` is the peer. It
loses counts when two calls meet at one session, which is not held against it here.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import DateTime, Integer, String, insert, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.callers import Sample, load
from benchmarks.subject import METADATA

POOL_SIZES = (8, 16, 32, 64)
_ROWS_AT_ONCE = 5_000


class _Base(DeclarativeBase):
    pass


class SessionRow(_Base):
    """The planned model; only `metadata`, a name that declarative classes keep for themselves, had to be renamed."""

    __tablename__ = "sessions"

    session_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    user_id: Mapped[str | None] = mapped_column(String(255))
    session_metadata: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    last_activity: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    request_count: Mapped[int] = mapped_column(Integer, default=0)


class OrmUpdate:
    """The peer with a pool of one size."""

    def __init__(self, engine: AsyncEngine, size: int, tokens: Sequence[str]) -> None:
        self.name = f"SQLAlchemy ORM, select then update, pool of {size}"
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._tokens = tokens

    @classmethod
    async def best(cls, address: str, schema: str, number: int, callers: int, seconds: float) -> Self:
        """Fill a schema, and take the best pool size, each tried for a moment."""
        tokens = [f"session-{secrets.token_hex(16)}" for _ in range(number)]
        engine = _engine(address, schema, 1)
        async with engine.begin() as connection:
            await connection.run_sync(_Base.metadata.create_all)
            for start in range(0, number, _ROWS_AT_ONCE):
                rows = [_row(token) for token in tokens[start : start + _ROWS_AT_ONCE]]
                await connection.execute(insert(SessionRow), rows)
        await engine.dispose()
        rates: dict[int, float] = {}
        for size in POOL_SIZES:
            if size <= callers or not rates:
                tried = cls(_engine(address, schema, size), size, tokens)
                await tried.measure(callers, seconds / 3)
                rates[size] = (await tried.measure(callers, seconds)).per_second
                await tried.close()
        size = max(rates, key=rates.__getitem__)
        return cls(_engine(address, schema, size), size, tokens)

    async def close(self) -> None:
        """Disconnect."""
        await self._engine.dispose()

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`."""
        return await load(self._validate, self._tokens, callers, seconds)

    async def _validate(self, token: str) -> object:
        async with self._sessions() as session:
            row = (await session.scalars(select(SessionRow).where(SessionRow.session_id == token))).one_or_none()
            assert row is not None
            now = datetime.now(UTC)
            assert row.expires_at > now
            row.last_activity = now
            row.request_count += 1
            await session.commit()
            return (
                *(row.session_id, row.user_id, row.session_metadata["lang"], row.created_at, row.expires_at),
                *(row.last_activity, row.request_count),
            )


def _engine(address: str, schema: str, size: int) -> AsyncEngine:
    url = make_url(address).set(drivername="postgresql+asyncpg")
    # Calls wait for a connection as long as they must: with a hundred callers that is no failure.
    settings = {"server_settings": {"search_path": schema}}
    return create_async_engine(url, pool_size=size, max_overflow=0, pool_timeout=300, connect_args=settings)


def _row(token: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "session_id": token,
        "user_id": "user-1",
        "metadata": METADATA,
        "created_at": now,
        "expires_at": now + timedelta(days=1),
        "last_activity": now,
        "request_count": 0,
    }
