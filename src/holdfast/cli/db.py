"""`holdfast db`: the schema of a store."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, USAGE, complain, end

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

    _refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    address, options = settings.address(), settings.store_options()
    if sql:
        script = schema.sql_script(address, options, to)
        typer.echo(json.dumps({"sql": script}) if as_json else script)
        return
    asyncio.run(schema.upgrade(address, options, to))
    if as_json:
        typer.echo(json.dumps({"revision": to}))
    else:
        complain(f"the schema is at {to}")


@app.command()
def check(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Say whether the schema is what this version expects; exit code 3 when it is not.

    Example: holdfast db check --sqlite data/sessions.db
    """
    from holdfast.sql import schema

    _refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    problem = asyncio.run(schema.check(settings.address(), settings.store_options()))
    if as_json:
        typer.echo(json.dumps({"problem": problem}))
    if problem is not None:
        end(DIFFERENT, problem)
    if not as_json:
        complain("the schema is up to date")


def _refuse_both(sqlite: Path | None, postgres: str | None) -> None:
    if sqlite is not None and postgres is not None:
        end(USAGE, "--sqlite and --postgres exclude each other here")
