"""The commands of a move as the tests give them: on two stores, which the environment names."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg

from tests.cli.command import run


class Program:
    """`holdfast move` on two stores, which the environment names."""

    def __init__(self, folder: Path, path: Path, address: str, **variables: str) -> None:
        self.folder = folder
        self.path = path
        self.address = address
        self.variables = variables
        self.said = ""

    async def __call__(self, *arguments: str, code: int = 0, **changes: str) -> str:
        """What it prints on standard output; what it says otherwise is in `said`."""
        variables = {
            "DATABASE_URL": self.address,
            "HOLDFAST_SQLITE_PATH": str(self.path),
            "HOLDFAST_BACKUP_DIRECTORY": str(self.folder / "backups"),
            **self.variables,
            **changes,
        }
        ran = await asyncio.to_thread(run, "move", *arguments, folder=self.folder, **variables)
        assert ran.returncode == code, ran.stdout + ran.stderr
        self.said = ran.stderr
        assert "hfs_" not in ran.stdout + ran.stderr
        return ran.stdout

    async def json(self, *arguments: str, code: int = 0) -> Any:
        """The one JSON value that it prints."""
        return json.loads(await self(*arguments, "--json", code=code))

    async def status(self) -> Any:
        """Where the move stands."""
        return await self.json("status")

    def in_sqlite(self, statement: str) -> list[Any]:
        """Do something in the file, past Holdfast."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement).fetchall()

    async def in_postgresql(self, statement: str) -> list[Any]:
        """Do something in the database, past Holdfast."""
        connection = await asyncpg.connect(self.address)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def everything(self) -> list[Any]:
        """All that both stores consist of."""
        names = "SELECT name, sql FROM sqlite_master ORDER BY name"
        lite: list[Any] = self.in_sqlite(names)
        lite += [
            self.in_sqlite(f"SELECT * FROM {name}") for name, sql in lite if sql and sql.startswith("CREATE TABLE")
        ]
        post = await self.in_postgresql(
            "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        rows = [
            await self.in_postgresql(f'SELECT * FROM "{each["relname"]}"')
            for each in post
            if each["relkind"] == b"r" and each["relname"] != "holdfast_version"
        ]
        triggers = await self.in_postgresql("SELECT tgname, tgenabled FROM pg_trigger ORDER BY 1")
        return [lite, post, rows, triggers]
