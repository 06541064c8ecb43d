"""`python -m examples.chat`: the chat on this machine, with everything it needs made at the first start."""

import dataclasses
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from examples.chat.app import create_chat
from holdfast import HoldfastError
from holdfast.cli.environment import read_settings
from holdfast.cli.exits import OK, REFUSED, CommandEnded, complain
from holdfast.server import run
from holdfast.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen; on this machine only.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="The port; 0 takes a free one.")] = None,
    sqlite: Annotated[Path | None, typer.Option(help="Keep the sessions in this SQLite file.")] = None,
    postgres: Annotated[str | None, typer.Option(help="Keep them in the PostgreSQL database at this address.")] = None,
) -> None:
    """Run the chat, for development: loopback, plain HTTP, and credentials for the interface made and shown once.

    The sessions are kept in data/sessions.db unless an option names another place. With both options the chat follows
    a move from the file to PostgreSQL: sockets and log-ins stay. Example:

        python -m examples.chat --port 8001 --postgres postgresql://localhost/chat
    """
    if sqlite is None and postgres is None:
        sqlite = Path("data/sessions.db")
    if sqlite is not None and postgres is not None:
        # The file serves until a move has taken place.
        os.environ["SESSION_DB_TYPE"] = "sqlite"
    settings = read_settings(sqlite, postgres, host=host, port=port)
    if settings.port == 0:
        # The page's own address has to be known before the application is made: only it may open sockets.
        settings = dataclasses.replace(settings, port=_free_port(settings.host))
    settings, made = run.for_development(settings)
    run.serve(settings, create_chat(settings), lambda: _show(settings, made))


def _show(settings: Settings, made: dict[str, str]) -> None:
    for name, value in made.items():
        # Shown this once, on the terminal of whoever started it; no log ever has them.
        complain(f"made for this run: {name}={value}")
    complain("the chat is at the address below, the interface it stands beside under /docs")


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Run the command; the exit code, as `holdfast` has them."""
    try:
        typer.run(serve)
    except CommandEnded as ended:
        return ended.code
    except HoldfastError as error:
        complain(str(error))
        return REFUSED
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
