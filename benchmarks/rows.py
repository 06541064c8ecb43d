"""Sessions by the million: rows whose tokens follow from their number, put there in one COPY, and indexed after it."""

import hashlib
import json
import time
from binascii import crc32
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import asyncpg

from benchmarks.subject import METADATA

_LIVE: Final = {
    "metadata": f"'{json.dumps(METADATA)}'::jsonb",
    "created_at": "now()",
    "last_activity": "now()",
    "expires_at": "now() + interval '1 day'",
}
# Ended longer ago than the sweep keeps them for `why_ended`.
_ENDED: Final = {
    **_LIVE,
    "created_at": "now() - interval '1 day'",
    "last_activity": "now() - interval '1 day'",
    "expires_at": "now() - interval '3 hours'",
    "ended_at": "now() - interval '2 hours'",
    "end_reason": "'expired'",
}


def token_of(number: int) -> str:
    """The token of a row: well-formed, but anybody can guess it."""
    text = f"hfs_{number:043d}"
    return f"{text}{crc32(text.encode()):08x}"


async def add_rows(address: str, schema: str, number: int, *, first: int = 0, ended: bool = False) -> float:
    """Put so many sessions into a schema that Holdfast's migrations made; how many seconds it took.

    Their tokens are `token_of(first)` and the following. The table has its indexes, its statistics and no dirty page
    afterwards, as it would have after a quiet hour.
    """
    began = time.perf_counter()
    values = _ENDED if ended else _LIVE
    connection = await asyncpg.connect(address)
    try:
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes "
            "WHERE schemaname = $1 AND tablename = 'sessions' AND indexname <> 'sessions_pkey'",
            schema,
        )
        for index in indexes:
            await connection.execute(f"DROP INDEX {schema}.{index['indexname']}")
        await _alter(connection, schema, [f"ALTER {name} SET DEFAULT {value}" for name, value in values.items()])
        await connection.copy_records_to_table(
            "sessions", schema_name=schema, columns=["id", "digest", "user_id"], records=_rows(number, first)
        )
        await _alter(connection, schema, [f"ALTER {name} DROP DEFAULT" for name in values])
        await connection.execute("SET maintenance_work_mem = '512MB'")
        for index in indexes:
            await connection.execute(index["indexdef"])
        await connection.execute(f"VACUUM ANALYZE {schema}.sessions")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return time.perf_counter() - began


async def _alter(connection: "asyncpg.Connection[Any]", schema: str, changes: list[str]) -> None:
    await connection.execute(f"ALTER TABLE {schema}.sessions {', '.join(changes)}")


def _rows(number: int, first: int) -> Iterator[tuple[UUID, bytes, str]]:
    # UUIDv7 of the last milliseconds: later numbers have later ids, as sessions have.
    now = time.time_ns() // 1_000_000
    version, variant = 0x7 << 76, 0x2 << 62
    for each in range(first, first + number):
        id = UUID(int=(now + each // 1_000) << 80 | version | variant | each)
        yield id, hashlib.sha256(token_of(each).encode()).digest(), f"user-{each}"
