"""Connections to PostgreSQL: the host that takes writes, found within the time, and the end of a connection.

The driver would spend the whole time on the first host of an address: one that has lost its power refuses nothing,
it is silent. So each host is asked by itself, and the one that took writes last is asked first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from holdfast.sql.failures import Kind, kind_of

# What an orderly end may take, for all connections together; after it they are cut.
_GOODBYE_SECONDS: Final = 1.0
_NEXT_HOST: Final = (Kind.LOST, Kind.RETRY, Kind.DROP)


def first_that_takes_writes(dsn: str) -> Callable[..., Awaitable[Any]]:
    """What SQLAlchemy is to call in place of the driver's `connect`, for an address of one or several hosts."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    single = [parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(",")]

    async def connect(*, timeout: float, **arguments: Any) -> Any:
        import asyncpg

        failure: Exception | None = None
        for address in list(single):
            try:
                connection = await asyncpg.connect(**(arguments | {"dsn": address, "timeout": timeout / len(single)}))
            except Exception as error:
                if kind_of(error) not in _NEXT_HOST:
                    raise
                failure = error
            else:
                single.remove(address)
                single.insert(0, address)
                return connection
        assert failure is not None  # noqa: S101 - there is a host, and it neither took us nor refused us
        raise failure

    return connect


class Connections:
    """All connections of one engine, to let go of them whatever state their server is in."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Follow the engine's connections from now on."""
        self._engine = engine
        self._drivers: WeakSet[Any] = WeakSet()
        self._era = 0
        event.listen(engine.sync_engine, "connect", self._made)
        event.listen(engine.sync_engine, "checkout", self._taken)

    def _made(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        self._drivers.add(connection.driver_connection)
        entry.info["era"] = self._era

    def _taken(self, _: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        if entry.info["era"] != self._era:
            raise DisconnectionError("it leads to a server that did not take writes")

    def renew(self) -> None:
        """Let every connection that exists now be replaced before it is used again."""
        self._era += 1

    async def dispose(self) -> None:
        """Close every connection: in order if the server plays along, and in any case soon."""
        disposing = asyncio.create_task(self._engine.dispose())
        await asyncio.wait((disposing,), timeout=_GOODBYE_SECONDS)
        self.cut()
        await disposing

    def cut(self) -> None:
        """End every connection at once, in use or not: whoever waits for one gets an error."""
        for driver in list(self._drivers):
            driver.terminate()
