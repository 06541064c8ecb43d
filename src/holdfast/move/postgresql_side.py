"""The PostgreSQL half of a move: its tables and triggers, and each step that is one transaction there.

They are made by the start of a move and removed at its end, not by a migration: a store that is not moved has nothing
of them, and whoever may switch the fence (the owner of the tables) may make them too.

A mover's transaction begins by renewing its lease under its token, which also locks the move's row: whoever has been
taken over from fails there. The fence lets a transaction pass that names the move in a setting of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from holdfast.move.rows import SHAPES, TICKETS, Images, Key, Row, Shape
from holdfast.move.sqlite_side import Keys
from holdfast.move.state import LeaseHeld, MoveRefused, Phase, PostgresqlState, Reached
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.connections import connect_arguments, for_this_transaction, promised
from holdfast.sql.failures import FENCE_SQLSTATE
from holdfast.sql.tables import checked_schema

_STATEMENT_SECONDS: Final = 30.0
# While a switch of the fence waits for an open writer, later writers queue behind it.
_SWITCH_SETTINGS: Final = {"lock_timeout": "300"}
_ONLY_SQLALCHEMY: Final = ("prepared_statement_cache_size", "prepared_statement_name_func")


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
                f"EXISTS (SELECT FROM {self._s}.holdfast_move_log) AS changed FROM {self._s}.holdfast_move"
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
                row["changed"],
            )

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
            return await self._images(connection, keys)

    async def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        async with self._reading() as connection:
            return {table: await connection.fetchval(f"SELECT count(*) FROM {self._s}.{table}") for table in SHAPES}

    # Stepping

    async def prepare(self, move: UUID, store: UUID) -> None:
        """Make the move's objects and close the store: the first step of a move. Refuses a store that has sessions."""
        async with self._transaction() as connection:
            await connection.execute(for_this_transaction(_SWITCH_SETTINGS))
            await self._fence(connection, closed=True)
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {self._s}.sessions)"):
                raise MoveRefused(
                    "PostgreSQL has sessions of its own already, and a move goes into an empty store; give another "
                    "database or schema"
                )
            for statement in self._objects(move):
                await connection.execute(statement)
            await connection.execute(
                f"INSERT INTO {self._s}.holdfast_move (id, move, store, phase) VALUES (1, $1, $2, 'preparing')",
                move,
                store,
            )
            await self._authority(connection, "there")
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
                raise LeaseHeld("another process moves these stores at the moment; wait for it, or stop it first")
            assert isinstance(token, int)  # noqa: S101 - the column is a bigint
            return token

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
                raise LeaseHeld("another process took the move over")
            await connection.execute("SELECT set_config('holdfast.mover', $1, true)", str(move))
            yield PostgresqlStep(self, connection)
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
    async def _transaction(self, **how: Any) -> AsyncIterator["asyncpg.Connection[Any]"]:
        connection = await self._connected()
        try:
            async with connection.transaction(**how):
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

    async def _images(self, connection: "asyncpg.Connection[Any]", keys: Keys) -> Images:
        images = Images.none()
        for table, shape in SHAPES.items():
            asked = list(keys.get(table, ()))
            if not asked:
                continue
            found = await connection.fetch(
                f"SELECT {shape.read_columns()} FROM {self._s}.{table} WHERE {shape.key} = ANY($1)",
                shape.keys_to_postgresql(asked),
            )
            rows = images.rows[table]
            rows.update((row[0], row) for row in map(shape.to_sqlite, found))
            images.gone[table].extend(key for key in asked if key not in rows)
        return images

    async def _authority(self, connection: "asyncpg.Connection[Any]", authority: str) -> None:
        await connection.execute(
            f"UPDATE {self._s}.holdfast_control SET authority = $1, epoch = epoch + 1 WHERE id = 1", authority
        )

    async def _fence(self, connection: "asyncpg.Connection[Any]", *, closed: bool) -> None:
        # In the order of writing, so that no two switches and no writer wait for each other in a ring.
        for table in SHAPES:
            how = "ENABLE ALWAYS" if closed else "DISABLE"
            await connection.execute(f"ALTER TABLE {self._s}.{table} {how} TRIGGER holdfast_fence")
            # During a move TRUNCATE stays refused: no trigger could note which rows it removes.
            await connection.execute(f"ALTER TABLE {self._s}.{table} ENABLE ALWAYS TRIGGER holdfast_fence_truncate")

    def _objects(self, move: UUID) -> list[str]:
        """The statements that make the move's tables, and the fence's exemption."""
        return [
            (
                f"CREATE TABLE {self._s}.holdfast_move (id integer PRIMARY KEY CHECK (id = 1), move uuid NOT NULL, "
                "store uuid NOT NULL, capture uuid, phase text NOT NULL, token bigint NOT NULL DEFAULT 0, owner text, "
                "leased_until timestamptz, copying text NOT NULL DEFAULT 'sessions', copied text, "
                "cursor bigint NOT NULL DEFAULT 0, settled bigint NOT NULL DEFAULT 0, verified bigint, "
                "deadline timestamptz)"
            ),
            (
                f"CREATE TABLE {self._s}.holdfast_move_log "
                "(seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shape text NOT NULL, key text NOT NULL)"
            ),
            (
                f"CREATE OR REPLACE FUNCTION {self._s}.holdfast_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF current_setting('holdfast.mover', true) = '{move}' THEN RETURN NULL; END IF; "
                "RAISE EXCEPTION 'this store does not accept writes: another one holds the authority' "
                f"USING ERRCODE = '{FENCE_SQLSTATE}'; END $$"
            ),
        ]


class PostgresqlStep:
    """What a mover does within one transaction in PostgreSQL."""

    def __init__(self, side: PostgresqlSide, connection: "asyncpg.Connection[Any]") -> None:
        """Keep the transaction; `PostgresqlSide.step` makes it."""
        self._side = side
        self._connection = connection
        self._s = side._s

    async def phase(self, phase: Phase) -> None:
        """Enter a phase."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET phase = $1 WHERE id = 1", phase)

    async def begin_copying(self, capture: UUID) -> None:
        """Copy from the start, of a log that begins now: what was copied or compared before does not count."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET phase = 'copying', capture = $1, copying = 'sessions', "
            "copied = NULL, cursor = 0, verified = NULL WHERE id = 1",
            capture,
        )

    async def copied(self, shape: Shape, to: Key | None, then: Shape | None) -> None:
        """Note how far a table is copied; with another one, that it is done and that one is next."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET copying = $1, copied = $2 WHERE id = 1",
            (then or shape).table,
            None if then or to is None else shape.to_hex(to),
        )

    async def advanced(self, cursor: int) -> None:
        """Note how far SQLite's log is applied."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET cursor = $1 WHERE id = 1", cursor)

    async def verified(self, since: int) -> None:
        """Note that all rows were compared and none differed."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET verified = $1 WHERE id = 1", since)

    async def analyze(self) -> None:
        """Let the planner know the tables: they were empty, and it would take them for small."""
        for table in SHAPES:
            await self._connection.execute(f"ANALYZE {self._s}.{table}")

    async def expect_hooks(self, at: datetime | None) -> None:
        """Take over when a process with an end hook was last seen."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_control SET hooks_expected_at = $1 WHERE id = 1", at)

    async def write(self, images: Images) -> None:
        """Make the rows what the images say. Safe to repeat."""
        for shape in SHAPES.values():
            if rows := list(images.rows[shape.table].values()):
                await self._connection.execute(self._upsert(shape), *shape.to_postgresql(rows))
        for shape in reversed(SHAPES.values()):
            if keys := images.gone[shape.table]:
                await self._connection.execute(
                    f"DELETE FROM {self._s}.{shape.table} WHERE {shape.key} = ANY($1)", shape.keys_to_postgresql(keys)
                )

    async def replace(self, shape: Shape, after: Key | None, to: Key | None, rows: Sequence[Row]) -> None:
        """Make a stretch of a table consist of some rows; `None` is no bound."""
        keep = shape.keys_to_postgresql([row[0] for row in rows])
        bounds = shape.keys_to_postgresql([key for key in (after, to) if key is not None])
        signs = [sign for sign, key in ((">", after), ("<=", to)) if key is not None]
        where = "".join(f" AND {shape.key} {sign} ${number}" for number, sign in enumerate(signs, 2))
        await self._connection.execute(
            f"DELETE FROM {self._s}.{shape.table} WHERE NOT {shape.key} = ANY($1){where}", keep, *bounds
        )
        if rows:
            await self._connection.execute(self._upsert(shape), *shape.to_postgresql(rows))

    async def images(self, keys: Keys) -> Images:
        """The rows of some keys as this transaction sees them."""
        return await self._side._images(self._connection, keys)

    def _upsert(self, shape: Shape) -> str:
        # JSON travels as text: the driver has no array of it.
        types = ["text" if form.type == "jsonb" else form.type for form in shape.forms.values()]
        arrays = ", ".join(f"${number}::{each}[]" for number, each in enumerate(types, 1))
        values = ", ".join(f"r.{n}::jsonb" if form.type == "jsonb" else f"r.{n}" for n, form in shape.forms.items())
        changes = ", ".join(f"{name} = excluded.{name}" for name in shape.forms if name != shape.key)
        # A ticket whose session came after its part of the copy is in the log, as the session is.
        join = f" JOIN {self._s}.sessions s ON s.id = r.session_id" if shape is TICKETS else ""
        return (
            f"INSERT INTO {self._s}.{shape.table} ({shape.columns()}) SELECT {values} "
            f"FROM unnest({arrays}) AS r({shape.columns()}){join} "
            f"ON CONFLICT ({shape.key}) DO UPDATE SET {changes}"
        )
