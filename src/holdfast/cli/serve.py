"""`holdfast serve`."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import FAILURE, REFUSED, USAGE, complain, end
from holdfast.cli.options import Postgres, Sqlite
from holdfast.cli.output import print_json
from holdfast.sessions.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen instead of HOLDFAST_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The port instead of HOLDFAST_PORT; 0 takes a free one."),
    ] = None,
    dev: Annotated[bool, typer.Option("--dev", help="Loopback, SQLite, and credentials made and shown once.")] = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Say whether a server would start with this and serve; start none, change nothing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: print JSON.")] = False,
) -> None:
    """Run the server.

    Everything is set by the environment, see docs/reference/settings.md. With a SQLite file and PostgreSQL both named
    it serves from whichever holds the authority, and follows a move between them. Exit code 4 when settings or store
    are not fit; `--check` says so without a start, `holdfast doctor` looks for more. Example:

        HOLDFAST_APP_TOKEN=… HOLDFAST_ADMIN_TOKEN=… holdfast serve --host 0.0.0.0 --port 8000
    """
    if as_json and not check:
        end(USAGE, "--json goes with --check: a server's output is its log")
    settings = read_settings(sqlite, postgres, host=host, port=port)
    if dev and postgres is None and sqlite is None:
        if settings.database_url is not None:
            complain("DATABASE_URL is not used with --dev; add --postgres, or --sqlite, to name a database")
        settings = read_settings(settings.sqlite_path or Path("data/sessions.db"), host=host, port=port)
    try:
        from holdfast.server import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("holdfast"):
            raise
        end(FAILURE, f"the server needs the package {error.name}; install Holdfast with the extra `server`")
    made: dict[str, str] = {}
    if dev:
        settings, made = run.for_development(settings)
    if check:
        _check(settings, as_json=as_json)
        return
    if not dev:
        run.serve(settings)
        return

    def show() -> None:
        for name, value in made.items():
            # Shown this once, on the terminal of whoever started it; no log ever has them.
            complain(f"made for this run: {name}={value}")
        complain("the interface is described, and can be tried, at the address below under /docs")

    run.serve(settings, run.development_app(settings), show)


def _check(settings: "Settings", *, as_json: bool) -> None:
    from holdfast.doctor.starting import refuse_unfit

    logging.getLogger("holdfast").setLevel(logging.ERROR)
    problem, stores = None, []
    try:
        stores = asyncio.run(refuse_unfit(settings))
    except HoldfastError as refusal:
        problem = str(refusal)
    if as_json:
        print_json({"problem": problem, "stores": stores, "host": settings.host, "port": settings.port})
    if problem is not None:
        end(REFUSED, problem)
    if not as_json:
        complain(f"a server would start on {settings.host} port {settings.port} with {' and '.join(stores)}")
