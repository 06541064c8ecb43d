"""Where tables are installed: an empty file, and an empty database on each version of PostgreSQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.admin import Databases
from tests.support.fixtures import DatabaseFactory, database_factory


@dataclass(frozen=True)
class Place:
    """A database without any table, and the schema that Holdfast has there."""

    address: str
    schema: str | None

    @property
    def qualified(self) -> str:
        """What goes before a table's name."""
        return "" if self.schema is None else f'"{self.schema}".'

    @property
    def url(self) -> str:
        """As SQLAlchemy spells it."""
        if self.schema is None:
            return f"sqlite+aiosqlite:///{self.address}"
        return make_url(self.address).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)

    def engine(self) -> AsyncEngine:
        """An application's own engine on the same database."""
        return create_async_engine(self.url, poolclass=NullPool)

    def file_engine(self) -> Engine:
        """The same for a SQLite file, from plain code."""
        return create_engine(f"sqlite:///{self.address}", poolclass=NullPool)


PLACES = ["sqlite", "postgresql-16", "postgresql-18"]


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database of the kind in `request.param`, see `PLACES`."""
    kind, _, version = request.param.partition("-")
    if kind == "sqlite":
        yield Place(str(tmp_path / "sessions.db"), None)
        return
    server = request.getfixturevalue(f"postgres_{version}")
    assert isinstance(server, Databases)
    databases = database_factory(server)
    create: DatabaseFactory = next(databases)
    yield Place(create(), "public")
    for _ in databases:
        pass
