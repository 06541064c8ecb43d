"""`holdfast move start --follow`: applies what is written until somebody stops it."""

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdfast.cli.exits import complain
from holdfast.cli.move_running import Stores, interruptible
from holdfast.cli.move_view import View

if TYPE_CHECKING:
    from holdfast.move.mover import Mover

_PAUSE_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 5.0


def follow(stores: Stores) -> None:
    """Follow whichever store serves, until the move is over or Ctrl-C. A store that is away is waited for."""
    complain("following; Ctrl-C stops it, and nothing is lost by that")
    interruptible(_follow(stores))
    complain("the move is over")


async def _follow(stores: Stores) -> None:
    from holdfast.sessions.errors import StoreUnavailable

    said = 0.0
    with View() as view:
        while True:
            try:
                async with stores.mover(view, backups=False) as mover:
                    await _until_over(mover)
                    return
            except StoreUnavailable as error:
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    complain(f"{error}; trying again")
                await asyncio.sleep(_AGAIN_SECONDS)


async def _until_over(mover: "Mover") -> None:
    from holdfast.move.state import LeaseHeld, WritesTooFast

    while (await mover.where()).postgresql.phase is not None:
        # Another command that moves goes first; and whoever only follows may be behind.
        with suppress(LeaseHeld, WritesTooFast):
            await mover.run()
        await mover.let_go()
        await asyncio.sleep(_PAUSE_SECONDS)
