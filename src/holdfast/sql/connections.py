"""Connections to PostgreSQL: what the driver is told, the host that takes writes, and the end of a connection.

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

from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.failures import WORTH_REPEATING, kind_of

# What an orderly end may take, for all connections together; after it they are cut.
_GOODBYE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 3.0


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
                if kind_of(error) not in WORTH_REPEATING:
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


def promised(seconds: float | None) -> dict[str, str]:
    """Settings that the promises need, whatever the server's defaults are."""
    return {
        "synchronous_commit": "on",
        "statement_timeout": "0" if seconds is None else str(int(seconds * 1000)),
        "lock_timeout": "10000" if seconds is None else str(int(min(2.0, seconds * 0.8) * 1000)),
        "idle_in_transaction_session_timeout": "0" if seconds is None else "10000",
    }


def for_this_transaction(settings: dict[str, str]) -> str:
    """One statement that makes the settings hold until the transaction ends."""
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())


def connect_arguments(
    address: PostgresqlAddress, *, pooled: bool = False, seconds: float | None = None
) -> dict[str, Any]:
    """What the driver is told when it connects.

    `seconds` bounds each statement, on the server a little earlier than here, so that most time-outs are definite;
    `None` means no bound, as migrations need it.
    """
    settings = {"application_name": "holdfast"}
    if not pooled:
        # A pooler in transaction mode refuses these: it could not keep them apart for its clients.
        settings |= promised(seconds) | {"TimeZone": "UTC", "default_transaction_isolation": "read committed"}
    arguments: dict[str, Any] = {
        "dsn": address.dsn,
        "async_creator_fn": first_that_takes_writes(address.dsn),
        "timeout": min(_CONNECT_SECONDS, seconds or _CONNECT_SECONDS),
        "command_timeout": None if seconds is None else seconds * 1.1,
        "server_settings": settings,
    }
    if pooled:
        # A prepared statement stays behind on a server that the next transaction does not get: so none has a name.
        arguments |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
        }
    return arguments
