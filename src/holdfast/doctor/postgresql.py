"""What PostgreSQL says about itself, the role and our tables."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.doctor.finding import Finding, Level

OWN_CONNECTIONS: Final = 9
_OLDEST: Final = 16
_NEWEST: Final = 18
_FILLFACTOR: Final = "fillfactor=60"
_MANY: Final = 10_000
_NEEDED: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")

SERVER: Final = text(
    "SELECT current_setting('server_version_num')::int AS version, current_setting('TimeZone') AS time_zone, "
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections, "
    "current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync, "
    "current_setting('full_page_writes') AS full_page_writes, current_setting('autovacuum') AS autovacuum, "
    "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser, "
    "(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS limit_of_role, "
    "(SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema) AS may_create"
)
"""The server's settings and the role's rights."""
TABLES: Final = text(
    "SELECT c.relname AS name, coalesce(array_to_string(c.reloptions, ','), '') AS options, "
    "has_table_privilege(c.oid, 'SELECT') AS may_select, has_table_privilege(c.oid, 'INSERT') AS may_insert, "
    "has_table_privilege(c.oid, 'UPDATE') AS may_update, has_table_privilege(c.oid, 'DELETE') AS may_delete, "
    "pg_table_size(c.oid) AS size, coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead, "
    "coalesce(s.n_tup_upd, 0) AS updates, coalesce(s.n_tup_hot_upd, 0) AS hot "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid "
    "WHERE n.nspname = :schema AND c.relkind = 'r' AND c.relname IN ('sessions', 'holdfast_tickets') "
    "AND EXISTS (SELECT FROM pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'holdfast_version')"
)
"""Our tables, where they are ours: options, rights, size and what the statistics say."""
NOW: Final = text("SELECT clock_timestamp()")
"""The database's clock."""
BACKEND: Final = text("SELECT pg_backend_pid()")
"""Which process of the server answers."""


async def clock(connection: AsyncConnection) -> Finding:
    """How far this machine's clock is from the database's."""
    before = datetime.now(UTC)  # noqa: TID251 - this machine's clock is what is looked at
    theirs = await connection.scalar(NOW)
    after = datetime.now(UTC)  # noqa: TID251 - the same
    assert isinstance(theirs, datetime)  # noqa: S101 - what the statement answers
    return clock_of((before + (after - before) / 2 - theirs).total_seconds())


def clock_of(seconds: float) -> Finding:
    """What a difference of the clocks means."""
    what = f"this machine is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} PostgreSQL"
    if abs(seconds) >= 1:
        remedy = "let both follow a time server; sessions follow PostgreSQL's clock, logs and cookies this one's"
        return Finding("clock", "warning" if abs(seconds) >= 30 else "notice", what, remedy)
    return Finding("clock", "ok", what)


async def shared(first: AsyncConnection, second: AsyncConnection) -> bool:
    """Whether two open connections are served by one process in turn: a pooler in transaction mode."""
    seen = [await connection.scalar(BACKEND) for connection in (first, second, first, second, first)]
    return len(set(seen[::2])) > 1 or bool(set(seen[::2]) & set(seen[1::2]))


def pooler(*, found: bool, configured: bool) -> Finding:
    """What a pooler means with these settings."""
    if found and not configured:
        what = "a pooler in transaction mode stands in front, and HOLDFAST_POOLED is not set"
        return Finding("pooler", "problem", what, "set HOLDFAST_POOLED=true, and HOLDFAST_LISTEN_URL past the pooler")
    if configured and not found:
        return Finding("pooler", "notice", "HOLDFAST_POOLED is set, and no pooler was noticed", "unset it if none is")
    return Finding("pooler", "ok", "in transaction mode, as configured" if found else "none in transaction mode")


def server(facts: Mapping[str, Any], connections: int, schema: str) -> Iterable[Finding]:
    """What the server's settings and the role's rights mean."""
    major = facts["version"] // 10_000
    level: Level = "problem" if major < _OLDEST else "notice" if major > _NEWEST else "ok"
    tried = None if level == "ok" else f"Holdfast is tried with PostgreSQL {_OLDEST} to {_NEWEST}"
    yield Finding("postgresql", level, f"PostgreSQL {major}", tried)
    yield Finding("time zone", "ok", f"the server's is {facts['time_zone']}; Holdfast keeps times in UTC")
    room = facts["connections"]
    if facts["limit_of_role"] >= 0 and not facts["superuser"]:
        room = min(room, facts["limit_of_role"])
    wanted = connections + OWN_CONNECTIONS
    what = f"a process takes up to {wanted}, and {room} are allowed in all"
    remedy = "lower HOLDFAST_CONNECTIONS, or raise max_connections or the role's limit"
    yield Finding("connections", "problem", what, remedy) if room < wanted else Finding("connections", "ok", what)
    for name in ("fsync", "full_page_writes", "autovacuum"):
        if facts[name] == "off":
            remedy = f"set {name} = on" + ("" if name == "autovacuum" else ": a crash may lose or damage sessions")
            yield Finding(name, "problem", "it is off", remedy)
        else:
            yield Finding(name, "ok", facts[name])
    if facts["synchronous_commit"] == "off":
        remedy = "nothing to do: Holdfast sets it for its own transactions"
        yield Finding("synchronous_commit", "notice", "it is off by default", remedy)
    else:
        yield Finding("synchronous_commit", "ok", facts["synchronous_commit"])
    if facts["superuser"]:
        yield Finding("role", "notice", "it is a superuser", "a role that owns only these tables suffices")
    elif not facts["may_create"]:
        what = f"it may not create tables in schema {schema!r}"
        yield Finding("role", "notice", what, "run `holdfast db upgrade` with a role that may")
    else:
        yield Finding("role", "ok", "it may bring the schema up to date")


def table(facts: Mapping[str, Any], qualified: str) -> Iterable[Finding]:
    """What is to be said about one of our tables."""
    name = facts["name"]
    missing = [right for right in _NEEDED if not facts[f"may_{right.lower()}"]]
    if missing:
        remedy = f"GRANT {', '.join(missing)} ON {qualified} TO the role"
        yield Finding(f"privileges on {name}", "problem", f"{', '.join(missing)} missing", remedy)
    else:
        yield Finding(f"privileges on {name}", "ok", ", ".join(_NEEDED))
    if "autovacuum_enabled=false" in facts["options"] or "autovacuum_enabled=off" in facts["options"]:
        remedy = f"ALTER TABLE {qualified} RESET (autovacuum_enabled)"
        yield Finding(f"autovacuum of {name}", "problem", "it is off for this table", remedy)
    live, dead = facts["live"], facts["dead"]
    what = f"{live:,} rows, {dead:,} dead ones, {facts['size'] // 1024:,} KiB"
    bloated = dead > max(_MANY, live) or (live > _MANY and facts["size"] / live > 8192)
    remedy = f"VACUUM {qualified}; then look for old transactions that keep dead rows: pg_stat_activity.xact_start"
    yield Finding(f"size of {name}", "warning", what, remedy) if bloated else Finding(f"size of {name}", "ok", what)
    if name != "sessions":
        return
    if _FILLFACTOR not in facts["options"].split(","):
        remedy = f"ALTER TABLE {qualified} SET (fillfactor = 60); old pages follow as they are written"
        yield Finding("fillfactor", "warning", "it is not 60: validates will write to indexes too", remedy)
    else:
        yield Finding("fillfactor", "ok", "60")
    if facts["updates"] > _MANY:
        share = facts["hot"] / facts["updates"]
        what = f"{share:.0%} of updates touched no index"
        remedy = "look at fillfactor above, at indexes of your own on the table, and for old transactions"
        yield Finding("updates", "warning", what, remedy) if share < 0.8 else Finding("updates", "ok", what)
