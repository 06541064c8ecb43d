"""What a mover does within one of its transactions in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from holdfast.move import postgresql_objects as objects
from holdfast.move.rows import SHAPES, TICKETS, Images, Key, Keys, Row, Shape
from holdfast.move.state import TAKEN_OVER, LeaseHeld, Phase
from holdfast.sql.connections import for_this_transaction

if TYPE_CHECKING:
    import asyncpg

# While a switch of the fence waits for an open writer, later writers queue behind it.
SWITCH_SETTINGS: Final = {"lock_timeout": "300"}
# Where no client writes, or none has to wait: longer than PostgreSQL's own `deadlock_timeout`, after which an
# autovacuum makes way for whoever waits for it.
_PATIENT_SETTINGS: Final = {"lock_timeout": "2000"}


async def images_of(connection: "asyncpg.Connection[Any]", s: str, keys: Keys) -> Images:
    """The rows of some keys as a transaction sees them."""
    images = Images.none()
    for table, shape in SHAPES.items():
        asked = list(keys.get(table, ()))
        if not asked:
            continue
        found = await connection.fetch(
            f"SELECT {shape.read_columns()} FROM {s}.{table} WHERE {shape.key} = ANY($1)",
            shape.keys_to_postgresql(asked),
        )
        rows = images.rows[table]
        rows.update((row[0], row) for row in map(shape.to_sqlite, found))
        images.gone[table].extend(key for key in asked if key not in rows)
    return images


class PostgresqlStep:
    """What a mover does within one transaction in PostgreSQL."""

    def __init__(self, connection: "asyncpg.Connection[Any]", s: str, token: int) -> None:
        """Keep the transaction, which `PostgresqlSide.step` makes, the schema as it is written in a statement, and the
        mover's token.
        """
        self._connection = connection
        self._s = s
        self._token = token

    async def phase(self, phase: Phase) -> None:
        """Enter a phase."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET phase = $1 WHERE id = 1", phase)

    async def begin_copying(self, capture: UUID) -> None:
        """Copy from the start, of a log that begins now: what was copied or compared before does not count."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET phase = 'copying', capture = $1, copying = 'sessions', "
            "copied = NULL, cursor = 0, verified = NULL, verified_at = NULL WHERE id = 1",
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
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET verified = $1, verified_at = clock_timestamp() WHERE id = 1", since
        )

    async def verified_again(self) -> None:
        """As `verified`, of a comparison since this store serves: for people, no decision rests on it."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET verified_at = clock_timestamp() WHERE id = 1"
        )

    async def differs(self) -> None:
        """Note that nothing counts as verified: a comparison has found a difference."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET verified_at = NULL WHERE id = 1")

    async def keep_tokens(self) -> None:
        """Keep the tokens of sessions that are made here in clear, until the move is over."""
        await objects.keep_tokens(self._connection, self._s)

    async def forget_tokens(self) -> None:
        """Forget the tokens of sessions that are over, or have another one by now; not those of the last minute."""
        await self._connection.execute(
            f"DELETE FROM {self._s}.{objects.TOKENS} t WHERE kept_at < clock_timestamp() - interval '1 minute' "
            f"AND NOT EXISTS (SELECT FROM {self._s}.sessions s WHERE s.digest = t.digest AND s.ended_at IS NULL)"
        )

    async def wait_for_vacuum(self) -> None:
        """Wait for whoever vacuums the tables. A switch would wait as well, with clients waiting too."""
        await self._connection.execute(for_this_transaction(_PATIENT_SETTINGS))
        for table in SHAPES:
            await self._connection.execute(f"LOCK TABLE {self._s}.{table} IN SHARE UPDATE EXCLUSIVE MODE")

    async def keep_vacuum_off(self) -> None:
        """Keep autovacuum off the tables until the switch that is begun now is over."""
        await self._connection.execute(for_this_transaction(_PATIENT_SETTINGS))
        await objects.keep_vacuum_off(self._connection, self._s)

    async def cut(self, budget: timedelta) -> None:
        """Begin a cut-over, which has so long to come to a decision."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET phase = 'cutting', deadline = clock_timestamp() + $1::interval "
            "WHERE id = 1",
            budget,
        )

    async def settled(self, flip: int) -> None:
        """Note that all is applied that was written up to a flip."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_move SET settled = $1 WHERE id = 1", flip)

    async def open(self) -> None:
        """Accept writes, SQLite having given its authority up, and note from now on which rows they change."""
        await self._switch("open")

    async def consumed(self, entries: Sequence[int]) -> None:
        """Cross off entries of the log that SQLite has."""
        await self._connection.execute(f"DELETE FROM {self._s}.holdfast_move_log WHERE seq = ANY($1)", entries)

    async def take_again(self, keys: Keys) -> None:
        """Note rows as if they had been written, so that SQLite gets them once more."""
        for table, some in keys.items():
            await self._connection.execute(
                f"INSERT INTO {self._s}.holdfast_move_log (shape, key) SELECT $1, unnest($2::text[])",
                table,
                [SHAPES[table].to_hex(key) for key in some],
            )

    async def fence(self, budget: timedelta) -> None:
        """Stop accepting writes, to go back, which has so long to come to a decision."""
        await self._connection.execute(for_this_transaction(SWITCH_SETTINGS))
        await objects.fence(self._connection, self._s, closed=True)
        await objects.set_authority(self._connection, self._s, "pending")
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET phase = 'returning', deadline = clock_timestamp() + $1::interval "
            "WHERE id = 1",
            budget,
        )

    async def resume(self) -> None:
        """Follow again, the cut-over having been called off."""
        await self._switch("resume")

    async def stay(self) -> None:
        """Accept writes again, not having given the authority up: which rows they change was noted throughout."""
        await self._switch("stay")

    async def take_authority(self) -> None:
        """Accept writes without SQLite, which is lost: only when an operator has said so, and the move ends by it."""
        await self._connection.execute(for_this_transaction(SWITCH_SETTINGS))
        await objects.fence(self._connection, self._s, closed=False)
        await objects.set_authority(self._connection, self._s, "here")

    async def give_back(self) -> None:
        """Give the authority up, SQLite having all that was written here."""
        await self._switch("give back")

    async def follow(self) -> None:
        """Follow SQLite again, which has taken the authority back. What was compared before does not count."""
        await self._connection.execute(
            f"UPDATE {self._s}.holdfast_move SET phase = 'following', verified = NULL, verified_at = NULL, "
            "deadline = NULL WHERE id = 1"
        )

    async def remove(self, *, serves: bool) -> None:
        """Take out all that the move put in. A store that does not serve is emptied, and stays closed."""
        await self._connection.execute(for_this_transaction(SWITCH_SETTINGS))
        if not serves:
            for table in reversed(SHAPES):
                await self._connection.execute(f"DELETE FROM {self._s}.{table}")
        await objects.remove(self._connection, self._s, serves=serves)

    async def _switch(self, goal: str) -> None:
        """By a function of the owner's: whoever finishes another one's decision need not own the tables."""
        await self._connection.execute(for_this_transaction(_PATIENT_SETTINGS))
        if not await self._connection.fetchval(f"SELECT {self._s}.{objects.SWITCH}($1, $2)", self._token, goal):
            raise LeaseHeld(TAKEN_OVER)

    async def analyze(self) -> None:
        """Let the planner know the tables: they were empty, and it would take them for small."""
        for table in SHAPES:
            await self._connection.execute(f"ANALYZE {self._s}.{table}")

    async def expect_hooks(self, at: datetime | None) -> None:
        """Take over when a process with an end hook was last seen."""
        await self._connection.execute(f"UPDATE {self._s}.holdfast_control SET hooks_expected_at = $1 WHERE id = 1", at)

    async def write(self, images: Images) -> None:
        """Make the rows what the images say. Safe to repeat."""
        # What is gone goes first: a program that changed a row's key left the rest of it as it was.
        for shape in reversed(SHAPES.values()):
            if keys := images.gone[shape.table]:
                await self._connection.execute(
                    f"DELETE FROM {self._s}.{shape.table} WHERE {shape.key} = ANY($1)", shape.keys_to_postgresql(keys)
                )
        for shape in SHAPES.values():
            if rows := list(images.rows[shape.table].values()):
                await self._connection.execute(self._upsert(shape), *shape.to_postgresql(rows))

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

    async def counts(self) -> dict[str, int]:
        """How many rows each table has, as this transaction sees them."""
        return {table: await self._connection.fetchval(f"SELECT count(*) FROM {self._s}.{table}") for table in SHAPES}

    async def images(self, keys: Keys) -> Images:
        """The rows of some keys as this transaction sees them."""
        return await images_of(self._connection, self._s, keys)

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
