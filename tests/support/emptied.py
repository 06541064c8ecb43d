"""Databases that are emptied after a test instead of dropped: to clone and drop one costs ten times as much."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import asyncpg

from tests.support.admin import Databases, execute

# What a test may have left besides rows. Numbers of objects are in it: a table made anew is another table.
_FORM: Final = """\
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
SELECT concat_ws(' ', 'relation', oid, relname, relkind, relnamespace, relowner, relacl, reloptions) AS line
  FROM pg_class WHERE oid >= 16384
UNION ALL SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull, atthasdef, attisdropped, attacl)
  FROM pg_attribute WHERE attrelid >= 16384
UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgrelid, tgname, tgenabled) FROM pg_trigger
UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint WHERE oid >= 16384
UNION ALL SELECT concat_ws(' ', 'function', oid, proname, prosrc, proconfig, proacl) FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
UNION ALL SELECT concat_ws(' ', 'setting', s.setconfig) FROM pg_db_role_setting s
  JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()) AS lines
"""
_ALONE: Final = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
_TABLES: Final = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


class EmptiedDatabases:
    """Databases of one server with our tables; those that are free are as they were when they were made."""

    def __init__(self, server: Databases, template: Callable[[Databases], str]) -> None:
        self._server = server
        self._template = template
        self._free: list[str] = []
        self._made: list[str] = []
        self._form = ""
        self._emptying: list[str] = []

    def take(self) -> str:
        """The name of a database that nobody else has."""
        if self._free:
            return self._free.pop()
        name = f"holdfast_emptied_{secrets.token_hex(8)}"
        address = self._server.create_database(name, self._template(self._server))
        self._made.append(name)
        if not self._form:
            self._look(address)
        return name

    def give_back(self, name: str) -> None:
        """Put its rows back as they were; one whose form has changed is dropped."""
        try:
            [[form]] = execute(self._server.address(name), _ALONE, *self._emptying, _FORM)
        except asyncpg.PostgresError:
            # A table is gone, or a trigger keeps its rows.
            form = None
        if form == self._form:
            self._free.append(name)
        else:
            self._made.remove(name)
            self._server.drop_database(name)

    def drop(self) -> None:
        """Drop them all. A server that has ended took them with it."""
        with suppress(OSError):
            for name in self._made:
                self._server.drop_database(name)

    def _look(self, address: str) -> None:
        """Learn the form of a fresh database, and how to get back to its rows."""
        [[self._form]] = execute(address, _FORM)
        tables = [table for (table,) in execute(address, _TABLES)]
        self._emptying = [f"DELETE FROM {table}" for table in tables]
        for table in tables:
            for (row,) in execute(address, f"SELECT to_jsonb(t)::text FROM {table} t"):
                text = row.replace("'", "''")
                self._emptying.append(
                    f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, '{text}')"
                )
