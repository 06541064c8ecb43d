"""The PostgreSQL half of a move: what it says, and the transactions of a mover.

A mover's transaction begins by renewing its lease under its token, which also locks the move's row: whoever has been
taken over from fails there. The fence lets a transaction pass that names the move in a setting of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from holdfast.move import postgresql_objects as objects
from holdfast.move.clock_difference import seconds_ahead_of_here
from holdfast.move.postgresql_step import SWITCH_SETTINGS, PostgresqlStep, images_of
from holdfast.move.rows import SHAPES, Images, Key, Keys, Row, Shape
from holdfast.move.state import TAKEN_OVER, LeaseHeld, MoveRefused, Phase, PostgresqlState, Reached
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.connections import connect_arguments, for_this_transaction, promised
from holdfast.sql.tables import checked_schema

_STATEMENT_SECONDS: Final = 30.0
ENCODINGS: Final = ("UTF8", "SQL_ASCII")
"""Of a database that takes every text that a SQLite file may hold."""
UTF_8: Final = "give a database that was created with ENCODING 'UTF8'"
_ONLY_SQLALCHEMY: Final = ("prepared_statement_cache_size", "prepared_statement_name_func")


@dataclass(frozen=True, slots=True)
class PostgresqlChanges:
    """Entries of PostgreSQL's log: the rows they name as they are now, all read at one instant."""

    images: Images
    entries: list[int]
    """Their numbers. A later commit may have a lower number, so they are crossed off one by one."""
    complete: bool
    """Whether there were no more."""
    others: Images
    """What else was asked for, read at that same instant."""


class PostgresqlSide:
    """The database. One task of a mover uses it, one call at a time."""

    def __init__(self, address: PostgresqlAddress, options: StoreOptions, reached: Reached, lease: timedelta) -> None:
        """Prepare it; it connects when it is first asked, and again after a connection was lost."""
        self._address = address
        self._pooled = options.pooled or address.pooled
        self._schema = checked_schema(options.schema)
        self._reached = reached
        self._lease = lease
        self._held: asyncpg.Connection[Any] | None = None

    async def close(self) -> None:
        """Let go of the connection. Safe to repeat."""
        connection, self._held = self._held, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(1.0):
                    await connection.close()
            connection.terminate()

    def break_off(self) -> None:
        """End what is under way, whether the server answers or not: whoever waits for it gets an error at once."""
        if self._held is not None:
            self._held.terminate()

    # Looking

    async def look(self) -> PostgresqlState:
        """What the database says of itself and of the move."""
        async with self._reading() as connection:
            control = await connection.fetchrow(f"SELECT authority FROM {self._s}.holdfast_control WHERE id = 1")
            if control is None:
                raise MoveRefused("PostgreSQL has lost its control row; restore a backup")
            if not await self._is_prepared(connection):
                return PostgresqlState(control["authority"], None)
            row = await connection.fetchrow(
                f"SELECT *, deadline < clock_timestamp() AS overdue, "
                f"(SELECT max(seq) - min(seq) + 1 FROM {self._s}.holdfast_move_log) AS noted "
                f"FROM {self._s}.holdfast_move"
            )
            if row is None:
                raise MoveRefused("PostgreSQL has lost the row of its move; restore a backup")
            return PostgresqlState(
                control["authority"],
                row["phase"],
                row["move"],
                row["store"],
                row["capture"],
                row["copying"],
                row["copied"],
                row["cursor"],
                row["settled"],
                row["verified"],
                bool(row["overdue"]),
                row["noted"] is not None,
                row["noted"] or 0,
            )

    async def seconds_ahead(self) -> float:
        """By how many seconds its clock is ahead of this machine's, by which the SQLite file is read."""
        async with self._reading() as connection:
            before = datetime.now(UTC)  # noqa: TID251 - this machine's clock is what is compared: it is SQLite's
            there = await connection.fetchval("SELECT clock_timestamp()")
            return seconds_ahead_of_here(before, there, datetime.now(UTC))  # noqa: TID251 - as above

    async def chunk(self, shape: Shape, after: Key | None, to: Key | None) -> list[Row]:
        """The rows with a key after the one, up to the other; `None` is no bound. In SQLite's form, by key."""
        bounds = shape.keys_to_postgresql([key for key in (after, to) if key is not None])
        where = " AND ".join(
            f"{shape.key} {sign} ${number}"
            for number, sign in enumerate([s for s, k in ((">", after), ("<=", to)) if k is not None], 1)
        )
        async with self._reading() as connection:
            rows = await connection.fetch(
                f"SELECT {shape.read_columns()} FROM {self._s}.{shape.table} "
                f"{'WHERE ' + where if where else ''} ORDER BY {shape.key}",
                *bounds,
            )
        return [shape.to_sqlite(row) for row in rows]

    async def images(self, keys: Keys) -> Images:
        """The rows of some keys, all at one instant."""
        async with self._reading() as connection:
            return await images_of(connection, self._s, keys)

    async def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        async with self._reading() as connection:
            return {table: await connection.fetchval(f"SELECT count(*) FROM {self._s}.{table}") for table in SHAPES}

    async def changes(self, limit: int, others: Keys) -> "PostgresqlChanges":
        """Up to so many entries of the log, as the rows are now; and the rows of some other keys."""
        async with self._reading() as connection:
            entries = await connection.fetch(
                f"SELECT seq, shape, key FROM {self._s}.holdfast_move_log ORDER BY seq LIMIT $1", limit
            )
            keys: dict[str, list[Key]] = {table: [] for table in SHAPES}
            for table, key in dict.fromkeys((each["shape"], each["key"]) for each in entries):
                keys[table].append(SHAPES[table].of_hex(key))
            return PostgresqlChanges(
                await images_of(connection, self._s, keys),
                [each["seq"] for each in entries],
                len(entries) < limit,
                await images_of(connection, self._s, others),
            )

    async def tokens(self, digests: Sequence[bytes]) -> dict[bytes, str] | None:
        """The tokens in clear of some digests, as far as they were kept; `None` when none are."""
        async with self._reading() as connection:
            place = f"{self._s}.{objects.TOKENS}"
            if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", place):
                return None
            rows = await connection.fetch(f"SELECT digest, token FROM {place} WHERE digest = ANY($1)", digests)
            return {row["digest"]: row["token"] for row in rows}

    async def hooks_expected_at(self) -> datetime | None:
        """When a process with an end hook was last seen."""
        async with self._reading() as connection:
            at: datetime | None = await connection.fetchval(
                f"SELECT hooks_expected_at FROM {self._s}.holdfast_control WHERE id = 1"
            )
            return at

    # Stepping

    async def prepare(self, move: UUID, store: UUID) -> None:
        """Make the move's objects and close the store: the first step of a move. Refuses a store that has sessions.

        Does nothing when there is a move already.
        """
        async with self._transaction() as connection:
            await connection.execute(for_this_transaction(SWITCH_SETTINGS))
            await objects.fence(connection, self._s, closed=True)
            if await self._is_prepared(connection):
                # By somebody else, or by this one, which has not heard of it.
                return
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {self._s}.sessions)"):
                raise MoveRefused(
                    "PostgreSQL has sessions of its own already, and a move goes into an empty store; give another "
                    "database or schema"
                )
            if (encoding := await connection.fetchval("SELECT current_setting('server_encoding')")) not in ENCODINGS:
                raise MoveRefused(f"PostgreSQL's database has the encoding {encoding}, not every text's; {UTF_8}")
            await objects.make(connection, self._s, move)
            await connection.execute(
                f"INSERT INTO {self._s}.holdfast_move (id, move, store, phase) VALUES (1, $1, $2, 'preparing')",
                move,
                store,
            )
            await objects.set_authority(connection, self._s, "there")
            self._reached("prepare")
        self._reached("prepare done")

    async def take_lease(self, owner: str) -> int:
        """Become the one who moves; the token. Raises `LeaseHeld` while somebody else's lease runs."""
        async with self._transaction() as connection:
            token = await connection.fetchval(
                f"UPDATE {self._s}.holdfast_move SET token = token + 1, owner = $1, "
                "leased_until = clock_timestamp() + $2::interval WHERE id = 1 "
                "AND (owner IS NULL OR owner = $1 OR leased_until < clock_timestamp()) RETURNING token",
                owner,
                self._lease,
            )
            if token is None:
                held = await connection.fetchval(f"SELECT owner FROM {self._s}.holdfast_move")
                raise LeaseHeld(
                    f"another process moves these stores at the moment ({str(held).rpartition(':')[0] or held}); wait "
                    "for it, or stop it first"
                )
            assert isinstance(token, int)  # noqa: S101 - the column is a bigint
            return token

    async def release_lease(self, token: int) -> None:
        """Let others move at once."""
        async with self._transaction() as connection:
            await connection.execute(f"UPDATE {self._s}.holdfast_move SET owner = NULL WHERE token = $1", token)

    @asynccontextmanager
    async def step(self, step: str, token: int, *phases: Phase) -> AsyncIterator["PostgresqlStep"]:
        """One transaction of the mover that has the lease, in one of some phases.

        Raises `LeaseHeld` when another one has it, or the phase is another by now.
        """
        async with self._transaction() as connection:
            move = await connection.fetchval(
                f"UPDATE {self._s}.holdfast_move SET leased_until = clock_timestamp() + $2::interval "
                "WHERE id = 1 AND token = $1 AND phase = ANY($3) RETURNING move",
                token,
                self._lease,
                list(phases),
            )
            if move is None:
                raise LeaseHeld(TAKEN_OVER)
            await connection.execute("SELECT set_config('holdfast.mover', $1, true)", str(move))
            yield PostgresqlStep(connection, self._s, token)
            self._reached(step)
        self._reached(f"{step} done")

    @property
    def _s(self) -> str:
        return f'"{self._schema}"'

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        async with self._transaction(isolation="repeatable_read", readonly=True) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(
        self, isolation: Literal["read_committed", "repeatable_read"] = "read_committed", *, readonly: bool = False
    ) -> AsyncIterator["asyncpg.Connection[Any]"]:
        connection = await self._connected()
        try:
            # Not the role's default: who has waited for a lock has to see what was committed meanwhile.
            async with connection.transaction(isolation=isolation, readonly=readonly):
                await connection.execute(for_this_transaction(promised(_STATEMENT_SECONDS) | {"TimeZone": "UTC"}))
                yield connection
        except BaseException:
            if connection.is_closed():
                await self.close()
            raise

    async def _connected(self) -> "asyncpg.Connection[Any]":
        if self._held is None or self._held.is_closed():
            arguments = connect_arguments(self._address, pooled=self._pooled, seconds=_STATEMENT_SECONDS)
            connect = arguments.pop("async_creator_fn")
            for name in _ONLY_SQLALCHEMY:
                arguments.pop(name, None)
            self._held = await connect(**arguments)
        return self._held

    async def _is_prepared(self, connection: "asyncpg.Connection[Any]") -> bool:
        return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{self._s}.holdfast_move"))
