"""Ends a move whose database is lost, with what the SQLite file has.

The one that a rehearsal was made in was dropped, or a disk is gone. Nobody can prove from here that it is for good: so
an operator says that it is, and it is refused where the file is not the one that serves, or the database is there.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from holdfast.legacy.form import has_legacy_form
from holdfast.move.addresses import file_address
from holdfast.move.conditions import Wishes
from holdfast.move.failures import in_our_words
from holdfast.move.lost_file import look_alone
from holdfast.move.running import nowhere
from holdfast.move.sides import sqlite_side
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import MoveRefused, SqliteState
from holdfast.move.threads import in_thread
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema

_THERE: Final = (
    "PostgreSQL has taken over from this file: what was written since the cut-over is in that database only. Bring it "
    "back, or restore a backup of it. If there is none, restore the backup that `cutover` took of the file with "
    "`holdfast db restore`, and what was written since is lost"
)


async def refuse_present(state: SqliteState, postgresql: str, options: StoreOptions) -> None:
    """Raise `MoveRefused` when the database is there and knows of the file's move: the plain command ends both."""
    try:
        move = (await look_alone(postgresql, options)).move
    except (StoreRefused, StoreUnavailable):
        # Away, dropped, or without Holdfast's tables.
        return
    if move is not None and move == state.move:
        raise MoveRefused("the database is there, and knows of this move; end the move by the plain command")


async def look_at_file(sqlite: str | os.PathLike[str], options: StoreOptions) -> SqliteState:
    """What the file says of its move. Raises `MoveRefused` where it has given its authority up."""
    async with _side(sqlite, options) as side:
        return await _serving(side)


async def abort_alone(sqlite: str | os.PathLike[str], options: StoreOptions) -> None:
    """Let the file serve, and take what the move put into it out. Nothing to do without a move. Safe to repeat.

    A database that comes back has lost its file then, and a plain abort empties it. Raises `MoveRefused` where the
    file has given its authority up, `LeaseHeld` where somebody moves it at the moment.
    """
    async with _side(sqlite, options) as side:
        state = await _serving(side)
        if state.move is not None:
            await in_thread(partial(side.remove, state.token, serving=True))


async def _serving(side: SqliteSide) -> SqliteState:
    state = await in_thread(side.look)
    if state.authority == "there":
        raise MoveRefused(_THERE)
    return state


@asynccontextmanager
async def _side(sqlite: str | os.PathLike[str], options: StoreOptions) -> AsyncIterator[SqliteSide]:
    address = file_address(sqlite)
    try:
        if not has_legacy_form(address.path):
            await schema.require(address, options)
        side = sqlite_side(address.path, options, nowhere, Wishes().on_bad_expiry)
        await in_thread(side.open)
        try:
            yield side
        finally:
            await in_thread(side.close)
    except Exception as error:
        told = in_our_words(error)
        if told is error:
            raise
        raise told from error
