"""`holdfast demo`."""

import asyncio
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.exits import FAILURE, USAGE, CommandEnded, complain, end
from holdfast.cli.options import AsJson, checked_address
from holdfast.cli.output import print_json

if TYPE_CHECKING:
    from holdfast.demo.checking import Outcome


def demo(
    postgres: Annotated[
        str | None,
        typer.Option(
            help="Use this database instead of a server of its own; in a schema that is dropped afterwards.",
            callback=checked_address,
        ),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=500, help="How many clients, each with a WebSocket.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=1, max=60, help="How long the clients work, besides what the steps take.")
    ] = 30,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep journals, logs and rows in this folder, which must be empty or not there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a move from SQLite to PostgreSQL and back, under traffic.

    There, back, and there again, under clients that write down every answer.

    Everything is made for it and thrown away: an old application with its file, a server, PostgreSQL, the clients. No
    configured store is touched.
    What counts comes from the clients' own journals, compared in the end with what the store that serves holds.
    Takes less than two minutes. Exit code 1 when a write was lost, a socket dropped or a session logged out.

    Example: holdfast demo --clients 100
    """
    from holdfast.cli.demo_view import View, print_outcome
    from holdfast.demo.programs import DemoFailed
    from holdfast.demo.story import Story

    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        end(USAGE, f"{keep} is there and not an empty folder")

    async def told() -> "Outcome":
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with View() as view:
            return await Story(clients, seconds, postgres, view.show).run(keep)

    try:
        outcome = asyncio.run(told())
    except DemoFailed as failure:
        end(FAILURE, str(failure))
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("stopped; nothing is left of it")
        raise CommandEnded(FAILURE) from None
    if as_json:
        print_json({**asdict(outcome), "clean": outcome.clean})
    else:
        print_outcome(outcome)
    if not outcome.clean:
        raise CommandEnded(FAILURE)
