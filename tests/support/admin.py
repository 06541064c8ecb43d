"""Administration statements from plain (not async) code, and addresses taken apart."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg


def with_database(address: str, database: str) -> str:
    """The same address with another database."""
    return urlunsplit(urlsplit(address)._replace(path=f"/{quote(database)}"))


def with_login(address: str, user: str, password: str) -> str:
    """The same address with another user."""
    parts = urlsplit(address)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(password)}@{place}"))


def with_place(address: str, host: str, port: int) -> str:
    """The same address at another host and port."""
    parts = urlsplit(address)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))


def identifier(name: str) -> str:
    """`name` quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def execute(address: str, *statements: str, deadline: float = 60.0) -> list[list[Any]]:
    """Run statements, each in its own transaction, and return the last one's rows as lists.

    Blocks the calling thread for up to `deadline` seconds, running event loop or not: fixtures
    that live longer than one test's loop need that.
    """

    async def conversation() -> list[list[Any]]:
        rows: list[Any] = []
        async with asyncio.timeout(deadline):
            connection = await asyncpg.connect(address)
            try:
                for statement in statements:
                    rows = await connection.fetch(statement)
            finally:
                # Not `close()`: it waits for the server to say goodbye, which a test that has just
                # frozen or killed the server would wait for in vain.
                connection.terminate()
        return [list(row.values()) for row in rows]

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, conversation()).result()


class Databases:
    """What every PostgreSQL for tests offers: addresses, databases and roles, given one login.

    The login must be allowed to create databases and roles.
    """

    def __init__(self, administrator: str) -> None:
        self._administrator = administrator

    def address(self, database: str = "postgres") -> str:
        """`postgresql://user:password@host:port/database` of the administrator."""
        return with_database(self._administrator, database)

    def execute(self, *statements: str, database: str = "postgres") -> list[list[Any]]:
        """Run statements as the administrator; see `execute` of this module."""
        return execute(self.address(database), *statements)

    async def connect(self, database: str = "postgres") -> asyncpg.Connection[Any]:
        """A connection of the administrator; the caller closes it."""
        return await asyncpg.connect(self.address(database))

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or a copy of `template`, and return its address.

        The template must have no open connection meanwhile: PostgreSQL insists.
        """
        copied = f" TEMPLATE {identifier(template)}" if template else " TEMPLATE template0"
        self.execute(f"CREATE DATABASE {identifier(name)}{copied}")
        return self.address(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, connected clients or not; a missing one is no error."""
        self.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    def restricted_role(self, database: str, schema: str) -> str:
        """Create a login that can read and change rows of `schema`, and nothing else there.

        It covers the tables and sequences that exist and those the administrator adds later.
        Returns the address of `database` for that login.  The role outlives the database; see
        `drop_role`.
        """
        name, password = f"restricted_{secrets.token_hex(6)}", secrets.token_hex(16)
        role, place = identifier(name), identifier(schema)
        rows, numbers = "SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT"
        self.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD '{password}' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION",
            # Before version 15 PUBLIC could create tables in the schema "public"; a database
            # upgraded from there still lets it.
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"REVOKE TEMPORARY ON DATABASE {identifier(database)} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {identifier(database)} TO {role}",
            f"GRANT USAGE ON SCHEMA {place} TO {role}",
            f"GRANT {rows} ON ALL TABLES IN SCHEMA {place} TO {role}",
            f"GRANT {numbers} ON ALL SEQUENCES IN SCHEMA {place} TO {role}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {place} GRANT {rows} ON TABLES TO {role}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {place} GRANT {numbers} ON SEQUENCES TO {role}",
            database=database,
        )
        return with_login(self.address(database), name, password)

    def drop_role(self, address: str, database: str) -> None:
        """Drop the login of an address that `restricted_role` gave for `database`."""
        role = identifier(str(urlsplit(address).username))
        self.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=database)
