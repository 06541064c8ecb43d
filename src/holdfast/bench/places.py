"""Tables of a measurement's own, beside the application's: a schema in the same database, a file on the same disk."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateSchema, DropSchema

from holdfast.opening import open_store
from holdfast.sessions.errors import HoldfastError, StoreRefused, StoreUnavailable
from holdfast.sessions.store import Store, StoreOptions
from holdfast.settings import Settings
from holdfast.sql.address import PostgresqlAddress, parse_address
from holdfast.sql.transactions import within_transaction

PREFIX: Final = "holdfast_bench_"
_MARK: Final = "holdfast bench, may be dropped, made at "
# Schemas of this role that runs left behind because they were killed: one takes seconds, and each says when it began.
_LEFT_BEHIND: Final = text(
    "SELECT nspname FROM pg_namespace CROSS JOIN LATERAL obj_description(oid, 'pg_namespace') AS said "
    "WHERE starts_with(nspname, :prefix) AND nspowner = current_user::regrole AND starts_with(said, :mark) AND "
    "CASE WHEN starts_with(said, :mark) THEN substr(said, length(:mark) + 1)::bigint END "
    "< extract(epoch FROM clock_timestamp()) - 900"
)
_NOW: Final = text("SELECT extract(epoch FROM clock_timestamp())::bigint")
_DURABLE: Final = text("SELECT current_setting('fsync') = 'on'")


@dataclass(frozen=True, slots=True)
class Place:
    """An empty store, not opened, and which database it is in."""

    kind: str
    where: str
    """The database, without a password."""
    store: Store
    durable: bool
    """Whether the server keeps what it has acknowledged: PostgreSQL's `fsync`."""


@asynccontextmanager
async def place_of_its_own(settings: Settings) -> AsyncIterator[Place]:
    """An empty store in the database that the settings name; afterwards nothing of it is left.

    Raises `StoreRefused` when the database gives no room for it, `StoreUnavailable` when it cannot be reached, and
    the same, naming what is left behind, when it cannot be removed.
    """
    address, options = parse_address(settings.address()), replace(settings.store_options(), upgrade=True)
    if not isinstance(address, PostgresqlAddress):
        folder = await asyncio.to_thread(_folder_beside, address.path)
        try:
            store = open_store(folder / "sessions.db", options)
            yield Place("sqlite", f"SQLite in {address.path.parent}", store, durable=True)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return
    name = f"{PREFIX}{secrets.token_hex(6)}"
    try:
        durable = await within_transaction(address, options, lambda connection: _make(connection, name))
    except StoreRefused as refusal:
        raise StoreRefused(
            f"{refusal}; the figures are measured in a schema of their own, so the role needs the right to make one "
            "(GRANT CREATE ON DATABASE … TO …), for as long as it takes"
        ) from refusal
    except asyncio.CancelledError:
        # It may be there already, and its answer on the way.
        await _remove(address, options, name)
        raise
    try:
        store = open_store(settings.address(), replace(options, schema=name))
        yield Place("postgresql", f"PostgreSQL at {address}", store, durable)
    finally:
        await _remove(address, options, name)


def _folder_beside(path: Path) -> Path:
    """A new folder on the disk of a file that need not exist, nor its folder."""
    nearest = next(folder for folder in path.absolute().parents if folder.is_dir())
    try:
        return Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=nearest))
    except OSError as error:
        raise StoreRefused(f"no folder can be made in {nearest}: {error.strerror}") from error


def _make(connection: Connection, name: str) -> bool:
    """Make the schema, and remove those that killed runs of this role left behind; whether `fsync` is on."""
    for each in connection.scalars(_LEFT_BEHIND, {"prefix": PREFIX, "mark": _MARK}).all():
        connection.execute(DropSchema(each, cascade=True))
    connection.execute(CreateSchema(name))
    # A comment takes no parameters; both texts are ours.
    connection.execute(text(f"COMMENT ON SCHEMA {name} IS '{_MARK}{connection.scalars(_NOW).one()}'"))
    return bool(connection.scalars(_DURABLE).one())


async def _remove(address: PostgresqlAddress, options: StoreOptions, name: str) -> None:
    """Remove the schema, whoever is cancelled meanwhile."""
    dropping = asyncio.ensure_future(
        within_transaction(
            address,
            options,
            lambda connection: connection.execute(DropSchema(name, cascade=True, if_exists=True)).close(),
        )
    )
    try:
        await asyncio.shield(dropping)
    except asyncio.CancelledError:
        await dropping
        raise
    except HoldfastError as error:
        raise StoreUnavailable(
            f"{error}; the schema {name} is left behind: drop it, or let a later `holdfast bench` do it"
        ) from error
