"""What a move puts into PostgreSQL, how it is switched, and how it is taken out.

Made by the start of a move and removed at its end, not by a migration: a store that is not moved has nothing of it,
and whoever may switch the fence (the owner of the tables) may make it too.
"""

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from holdfast.move.rows import FENCED, SESSIONS, SHAPES, Shape
from holdfast.sql.failures import FENCE_SQLSTATE
from holdfast.sql.keeping import KEEP_TOKEN

TOKENS: Final = "holdfast_move_tokens"
SWITCH: Final = "holdfast_move_switch"
"""The function that opens the store, or gives its authority up, for whoever finishes a decision."""
# What a process that finishes another one's decision writes of the move itself.
_FINISHED: Final = "owner, token, leased_until, phase, cursor, settled, verified, verified_at, deadline"
# The rows that a trigger of each event gets to see.
_EVENTS: Final = {"insert": "NEW", "update": "NEW", "delete": "OLD"}

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[Any]


async def make(connection: "Connection", s: str, move: UUID) -> None:
    """Make the tables, the capture (off), and the fence's exemption for a transaction that names the move."""
    # Tokens begin beyond those of any earlier move, whose movers may still be about.
    await connection.execute(
        f"CREATE TABLE {s}.holdfast_move (id integer PRIMARY KEY CHECK (id = 1), move uuid NOT NULL, "
        "store uuid NOT NULL, capture uuid, phase text NOT NULL, owner text, "
        "token bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, "
        "leased_until timestamptz, copying text NOT NULL DEFAULT 'sessions', copied text, "
        "cursor bigint NOT NULL DEFAULT 0, settled bigint NOT NULL DEFAULT 0, verified bigint, "
        "verified_at timestamptz, deadline timestamptz)"
    )
    await connection.execute(
        f"CREATE TABLE {s}.holdfast_move_log "
        "(seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shape text NOT NULL, key text NOT NULL)"
    )
    await connection.execute(
        _fence_function(s, f"IF current_setting('holdfast.mover', true) = '{move}' THEN RETURN NULL; END IF; ")
    )
    for shape in SHAPES.values():
        await _make_capture(connection, s, shape)
    await capture(connection, s, on=False)
    await connection.execute(_switch_function(s))
    await connection.execute(f"REVOKE ALL ON FUNCTION {s}.{SWITCH}(bigint, text) FROM PUBLIC")
    await _let_servers_look(connection, s)
    await _let_servers_finish(connection, s)


async def _let_servers_look(connection: "Connection", s: str) -> None:
    """Let whoever may see who has the authority see how the move stands too: servers tell of it."""
    for role in await _allowed(connection, f"{s}.holdfast_control", "SELECT"):
        await connection.execute(f"GRANT SELECT ON {s}.holdfast_move, {s}.holdfast_move_log TO {role}")


async def _let_servers_finish(connection: "Connection", s: str) -> None:
    """Let whoever may write sessions finish a decision that its mover died in: it is their writes that wait."""
    for role in await _allowed(connection, f"{s}.sessions", "UPDATE"):
        await connection.execute(f"GRANT SELECT, UPDATE ({_FINISHED}) ON {s}.holdfast_move TO {role}")
        await connection.execute(f"GRANT SELECT, DELETE ON {s}.holdfast_move_log TO {role}")
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {s}.{SWITCH}(bigint, text) TO {role}")


async def _allowed(connection: "Connection", table: str, privilege: str) -> list[str]:
    """The roles, written as in a statement, that have a privilege on a table; without its owner."""
    found = await connection.fetch(
        "SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END "
        "FROM pg_class, aclexplode(relacl) WHERE oid = $1::text::regclass AND privilege_type = $2 "
        "AND grantee <> relowner",
        table,
        privilege,
    )
    return [role for (role,) in found]


async def remove(connection: "Connection", s: str, *, serves: bool) -> None:
    """Take all of it out. A store that serves takes TRUNCATE again, which a move refuses."""
    for table in SHAPES:
        for event in _EVENTS:
            await connection.execute(f"DROP TRIGGER holdfast_move_{event} ON {s}.{table}")
        await connection.execute(f"DROP FUNCTION {s}.{_function(table)}")
        if serves and table in FENCED:
            await connection.execute(f"ALTER TABLE {s}.{table} DISABLE TRIGGER holdfast_fence_truncate")
    await connection.execute(_fence_function(s, ""))
    await connection.execute(f"DROP FUNCTION IF EXISTS {s}.{SWITCH}(bigint, text)")
    await connection.execute(f"DROP FUNCTION IF EXISTS {s}.{KEEP_TOKEN}(bytea, text)")
    await connection.execute(f"DROP TABLE IF EXISTS {s}.{TOKENS}")
    await connection.execute(f"DROP TABLE {s}.holdfast_move_log, {s}.holdfast_move")


async def keep_tokens(connection: "Connection", s: str) -> None:
    """Make the place where the tokens of new sessions are kept in clear, for the way back to a legacy file.

    Safe to repeat. The application's role may only add to it.
    """
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {s}.{TOKENS} (digest bytea PRIMARY KEY, token text NOT NULL, "
        "kept_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    await connection.execute(
        f"CREATE OR REPLACE FUNCTION {s}.{KEEP_TOKEN}(kept bytea, clear text) RETURNS void LANGUAGE sql "
        f"SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ INSERT INTO {s}.{TOKENS} (digest, token) "
        "VALUES (kept, clear) ON CONFLICT DO NOTHING $$"
    )
    # Where a database lets not everybody call a new function, whoever makes sessions still has to.
    for role in await _allowed(connection, f"{s}.sessions", "INSERT"):
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {s}.{KEEP_TOKEN}(bytea, text) TO {role}")


async def capture(connection: "Connection", s: str, *, on: bool) -> None:
    """Note the keys of the rows that clients write, or do not."""
    for statement in _capture_statements(s, on=on):
        await connection.execute(statement)


async def fence(connection: "Connection", s: str, *, closed: bool) -> None:
    """Refuse clients' writes, or let them pass. Waits for those under way; none comes after.

    TRUNCATE stays refused during a move: no trigger could note which rows it removes.
    """
    for statement in _fence_statements(s, closed=closed):
        await connection.execute(statement)


async def keep_vacuum_off(connection: "Connection", s: str) -> None:
    """Keep autovacuum off the tables until the store is switched, or that is called off."""
    for statement in _vacuum_statements(s, on=False):
        await connection.execute(statement)


async def set_authority(connection: "Connection", s: str, authority: str) -> None:
    """Say who has the authority: in the transaction that switches the fence."""
    await connection.execute(
        f"UPDATE {s}.holdfast_control SET authority = $1, epoch = epoch + 1 WHERE id = 1", authority
    )


def _capture_statements(s: str, *, on: bool) -> list[str]:
    how = "ENABLE ALWAYS" if on else "DISABLE"
    return [f"ALTER TABLE {s}.{table} {how} TRIGGER holdfast_move_{event}" for table in SHAPES for event in _EVENTS]


def _vacuum_statements(s: str, *, on: bool) -> list[str]:
    how = "RESET (autovacuum_enabled)" if on else "SET (autovacuum_enabled = off)"
    return [f"ALTER TABLE {s}.{table} {how}" for table in SHAPES]


def _fence_statements(s: str, *, closed: bool) -> list[str]:
    how = "ENABLE ALWAYS" if closed else "DISABLE"
    return [
        f"ALTER TABLE {s}.{table} {change}"
        for table in FENCED
        for change in (f"{how} TRIGGER holdfast_fence", "ENABLE ALWAYS TRIGGER holdfast_fence_truncate")
    ]


def _switch_function(s: str) -> str:
    """The switches that end a wait of clients, and the one that calls them off, in the name of the owner of the tables.

    A server's own role owns nothing, and a trigger is switched by the owner only. It answers whether it was done:
    not for a mover that was taken over from, nor in another phase. Closing the store to clients is not among them.
    """
    opened, captured = _fence_statements(s, closed=False), _capture_statements(s, on=True)
    emptied = f" AND NOT EXISTS (SELECT FROM {s}.holdfast_move_log)"
    goals: tuple[tuple[str, str, str, str, str, list[str], str], ...] = (
        ("open", "cutting", "there", "switched", "here", [*opened, *captured], ""),
        ("resume", "cutting", "there", "following", "there", [], ""),
        ("stay", "returning", "pending", "switched", "here", opened, ""),
        ("give back", "returning", "pending", "returned", "there", _capture_statements(s, on=False), emptied),
    )
    body = "".join(
        f"IF goal = '{goal}' THEN UPDATE {s}.holdfast_move m SET phase = '{phase}' FROM {s}.holdfast_control c "
        f"WHERE m.id = 1 AND c.id = 1 AND m.token = held AND m.phase = '{before}' AND c.authority = '{left}'{more}; "
        f"IF FOUND THEN {'; '.join([*changes, *_vacuum_statements(s, on=True)])}; "
        f"UPDATE {s}.holdfast_control SET authority = '{entered}', epoch = epoch + 1 "
        f"WHERE id = 1 AND authority <> '{entered}'; RETURN true; END IF; END IF; "
        for goal, before, left, phase, entered, changes, more in goals
    )
    return (
        f"CREATE FUNCTION {s}.{SWITCH}(held bigint, goal text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp AS $$ BEGIN {body}RETURN false; END $$"
    )


def _function(table: str) -> str:
    return f"holdfast_move_{table.removeprefix('holdfast_')}()"


def _fence_function(s: str, exemption: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {s}.holdfast_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{exemption}RAISE EXCEPTION 'this store does not accept writes: another one holds the authority' "
        f"USING ERRCODE = '{FENCE_SQLSTATE}'; END $$"
    )


async def _make_capture(connection: "Connection", s: str, shape: Shape) -> None:
    # Once for a statement, which joined calls make for many rows. In the name of the owner: the application's role
    # need not be allowed to write the log.
    key = f"replace({shape.key}::text, '-', '')" if shape is SESSIONS else f"encode({shape.key}, 'hex')"
    await connection.execute(
        f"CREATE FUNCTION {s}.{_function(shape.table)} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp AS $$ BEGIN INSERT INTO {s}.holdfast_move_log (shape, key) "
        f"SELECT '{shape.table}', {key} FROM changed; RETURN NULL; END $$"
    )
    for event, rows in _EVENTS.items():
        await connection.execute(
            f"CREATE TRIGGER holdfast_move_{event} AFTER {event} ON {s}.{shape.table} "
            f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION {s}.{_function(shape.table)}"
        )
