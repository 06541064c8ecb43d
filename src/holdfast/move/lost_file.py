"""Ends a move whose SQLite file is lost, with what PostgreSQL has.

Nobody can prove from here that the file is gone for good: it may be on a disk that is not mounted. So an operator says
that it is, and it is refused wherever PostgreSQL has not all that the file was known to hold.
"""

import os
import socket
from datetime import timedelta
from typing import Final

from holdfast.move.addresses import database_address, file_address
from holdfast.move.failures import in_our_words
from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.running import Running, nowhere
from holdfast.move.state import MoveRefused, Phase, PostgresqlState
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions

_LEASE: Final = timedelta(seconds=3)
_LOSSES: Final[dict[Phase, str]] = {
    "switched": "nothing but the way back",
    "returning": "nothing but the way back",
    "completing": "nothing",
    "cutting": "what was written in the last moment of the cut-over, if SQLite had not decided it",
    "returned": "what was written in the file after the roll-back, if it had begun to serve",
}
"""What may be lost with the file, by the phase."""


def loss(state: PostgresqlState) -> str:
    """What may be lost, in words. Raises `MoveRefused` where PostgreSQL cannot go on without the file."""
    if state.phase is None:
        raise MoveRefused("no move is under way in PostgreSQL; there is nothing to end")
    if state.phase not in _LOSSES:
        raise MoveRefused(
            f"the move is {state.phase}: the SQLite file had the authority, and PostgreSQL does not have all that it "
            "held. Restore the file with `holdfast db restore`, and then give holdfast move start, or abort"
        )
    return _LOSSES[state.phase]


async def refuse_present(sqlite: str | os.PathLike[str], postgresql: str, options: StoreOptions) -> None:
    """Raise `MoveRefused` when the file is there and is the one of the move: nothing is lost then."""
    address = file_address(sqlite)
    if not os.path.lexists(address.path):  # noqa: ASYNC240 - a look of no length
        return
    try:
        async with Running(sqlite, postgresql, options) as running:
            await running.look()
    except Exception as error:
        told = in_our_words(error)
        if isinstance(told, MoveRefused | StoreRefused):
            # Another file, an older one, or one that is no database any more.
            return
        raise told from error
    raise MoveRefused(
        f"{address.path} is there, and is the file of this move; end the move by the plain command. If it is "
        "not to be used, move it away first"
    )


async def look_alone(postgresql: str, options: StoreOptions) -> PostgresqlState:
    """What PostgreSQL says of the move. Raises `StoreUnavailable` and `StoreRefused`."""
    side = _side(postgresql, options)
    try:
        return await side.look()
    except Exception as error:
        raise in_our_words(error) from error
    finally:
        await side.close()


async def complete_alone(postgresql: str, options: StoreOptions) -> None:
    """Let PostgreSQL serve, and take what the move put into it out. Nothing to do without a move. Safe to repeat.

    Raises `MoveRefused` where it cannot go on without the file, `LeaseHeld` while somebody moves the stores.
    """
    side = _side(postgresql, options)
    try:
        state = await side.look()
        if state.phase is None:
            return
        loss(state)
        token = await side.take_lease(f"{socket.gethostname()}:{os.getpid()}:alone")
        async with side.step("complete alone", token, state.phase) as step:
            if state.phase == "returning":
                await step.stay()
            elif state.authority != "here":
                await step.take_authority()
            await step.remove(serves=True)
    except Exception as error:
        raise in_our_words(error) from error
    finally:
        await side.close()


def _side(postgresql: str, options: StoreOptions) -> PostgresqlSide:
    return PostgresqlSide(database_address(postgresql), options, nowhere, _LEASE)
