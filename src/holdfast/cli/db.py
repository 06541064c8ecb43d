"""`holdfast db`: the schema of a store."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, USAGE, complain, end
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions

if TYPE_CHECKING:
    from holdfast.sql.address import PostgresqlAddress, SqliteAddress

Answer = TypeVar("Answer")

app = typer.Typer(no_args_is_help=True, help="The schema of a store: bring it up to date, or check it.")

Sqlite = Annotated[Path | None, typer.Option(help="This SQLite file.")]
Postgres = Annotated[str | None, typer.Option(help="The PostgreSQL database at this address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def upgrade(
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of running them.")] = False,
    to: Annotated[str, typer.Option(help="The revision to go to.")] = "head",
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Bring the schema up to date.

    Example: holdfast db upgrade --postgres postgresql://holdfast@db/app
    """
    from holdfast.sql import schema

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    address, options = settings.address(), settings.store_options()
    if sql:
        script = _known_revision(to, lambda: schema.sql_script(address, options, to))
        typer.echo(json.dumps({"sql": script}) if as_json else script)
        return
    _known_revision(to, lambda: asyncio.run(schema.upgrade(address, options, to)))
    if as_json:
        typer.echo(json.dumps({"revision": to}))
    else:
        complain(f"the schema is at {to}")


@app.command()
def check(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Say whether the schema is what this version expects; exit code 3 when it is not.

    Example: holdfast db check --sqlite data/sessions.db
    """
    from holdfast.sql.address import parse_address

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    problem = asyncio.run(_problem(parse_address(settings.address()), settings.store_options()))
    if as_json:
        typer.echo(json.dumps({"problem": problem}))
    if problem is not None:
        end(DIFFERENT, problem)
    if not as_json:
        complain("the schema is up to date")


async def _problem(address: "SqliteAddress | PostgresqlAddress", options: StoreOptions) -> str | None:
    """What is wrong with the tables. Raises `StoreRefused` when the database did not let us look."""
    from holdfast.sql import schema
    from holdfast.sql.address import SqliteAddress

    if isinstance(address, SqliteAddress) and not os.path.lexists(address.path):  # noqa: ASYNC240  # nothing else runs
        return await schema.check(address, options)
    try:
        await schema.require(address, options)
    except StoreRefused as refusal:
        # What the look found has no cause; a refusal of the database does: a password, a name, a privilege.
        if refusal.__cause__ is not None:
            raise
        return str(refusal)
    return None


def _known_revision(revision: str, run: Callable[[], Answer]) -> Answer:
    """Run it. A revision that there is not is a mistake in the arguments."""
    from alembic.util import CommandError

    try:
        return run()
    except InvalidArgument as error:
        if isinstance(error.__cause__, CommandError):
            end(USAGE, f"--to {revision!r} is no revision; leave it out for the newest one")
        raise


def refuse_both(sqlite: Path | None, postgres: str | None) -> None:
    """End the command when both databases are named where one is meant."""
    if sqlite is not None and postgres is not None:
        end(USAGE, "--sqlite and --postgres exclude each other here")
