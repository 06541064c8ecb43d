"""`holdfast db`: the schema of a store."""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, REFUSED, USAGE, complain, end
from holdfast.cli.options import AsJson, Postgres, Sqlite, refuse_both
from holdfast.cli.output import print_json
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions

if TYPE_CHECKING:
    from holdfast.sql.address import PostgresqlAddress, SqliteAddress

app = typer.Typer(no_args_is_help=True, help="The schema of a store: bring it up to date, or check it.")


@app.command()
def upgrade(
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of running them.")] = False,
    to: Annotated[str, typer.Option(help="The revision to go to.")] = "head",
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Bring the schema up to date; safe to repeat. On PostgreSQL no server does it by itself.

    Exit code 4, and nothing is changed, where tables are in the way that are not Holdfast's, where a newer version
    made them, and where the database does not let us.

    Example: holdfast db upgrade --postgres postgresql://holdfast@db/app
    """
    from holdfast.sql import schema
    from holdfast.sql.address import parse_address
    from holdfast.sql.revisions import is_known

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    address, options = parse_address(settings.address()), settings.store_options()
    if to != "head" and not is_known(to):
        # Before a file is made that nothing would be in.
        end(USAGE, f"--to {to!r} is no revision; leave it out for the newest one")
    if sql:
        script = schema.sql_script(address, options, to)
        print_json({"sql": script}) if as_json else typer.echo(script)
        return
    if (said := _legacy(address)) is not None:
        end(REFUSED, said)
    asyncio.run(schema.upgrade(address, options, to))
    if to not in ("head", found := asyncio.run(schema.revision_at(address, options))):
        end(REFUSED, f"the tables are at revision {found}, past {to}; an upgrade takes nothing back")
    print_json({"revision": to}) if as_json else complain(f"the schema is at {to}")


@app.command()
def check(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Say whether the schema is what this version expects. Changes nothing.

    Exit code 0 when it is; 3 when it is not: no file, no tables, an older or a newer revision, an application's own
    tables; 4 when the database does not let us look.

    Example: holdfast db check --sqlite data/sessions.db
    """
    from holdfast.sql.address import parse_address

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    problem = asyncio.run(_problem(parse_address(settings.address()), settings.store_options()))
    if as_json:
        print_json({"problem": problem})
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
    if (said := _legacy(address)) is not None:
        return said
    try:
        await schema.require(address, options)
    except StoreRefused as refusal:
        # What the look found has no cause; a refusal of the database does: a password, a name, a privilege.
        if refusal.__cause__ is not None:
            raise
        return str(refusal)
    return None


def _legacy(address: "SqliteAddress | PostgresqlAddress") -> str | None:
    """What to say of a file that an application made and Holdfast serves as it is; `None` for any other store."""
    from holdfast.legacy.form import has_legacy_form
    from holdfast.sql.address import SqliteAddress

    if not isinstance(address, SqliteAddress) or not has_legacy_form(address.path):
        return None
    return (
        f"{address.path} has an application's own `sessions` table, which stays as it is. Holdfast serves it in place: "
        "point a server at it. To keep its sessions in tables of Holdfast's run "
        f"`holdfast db import --from-sqlite {address.path}` into another file or PostgreSQL"
    )
