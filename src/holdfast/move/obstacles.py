"""Which processes a change of authority would leave behind, and what an operator does about each.

One that knows only PostgreSQL is in the way of a roll-back, and not of the cut-over before it: until then the fence
keeps it from writing, and from then on it is where the sessions are.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.legacy.form import has_legacy_form
from holdfast.move.processes import ProcessSeen, processes_seen
from holdfast.move.status import StoreName
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import StoreOptions
from holdfast.sql.sqlite_file import reading_engine
from holdfast.sql.statements import Statements
from holdfast.sql.tables import tables


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What is to be done about processes that use the two stores: a sentence for each, the remedy after a semicolon."""

    refusals: list[str] = field(default_factory=list)
    """Before the authority changes hands."""
    notes: list[str] = field(default_factory=list)
    """Before it goes back again."""


async def obstacles(to: StoreName, sqlite: str | os.PathLike[str], postgresql: str, options: StoreOptions) -> Obstacles:
    """What stands in the way of the authority's going to a store. Changes nothing; raises as `processes_seen`."""
    return await obstacles_among(await processes_seen(sqlite, postgresql, options), to, Path(sqlite))


async def obstacles_among(processes: Sequence[ProcessSeen], to: StoreName, path: Path) -> Obstacles:
    """The same of processes that were seen; `path` is that of the SQLite file."""
    # A legacy file has no place to note processes in: there it counts that they know both stores.
    noted = not has_legacy_form(path)
    found = Obstacles()
    for each in processes:
        if to == "postgresql" and not each.configured and each.stores == ("postgresql",):
            if not noted or await asyncio.to_thread(_has_clear_tokens, path):
                # A store looks for these when it is opened, and at the end of a sweep, which the fence refuses.
                found.refusals.append(
                    f"{each.who} knows only PostgreSQL, and was opened before all tokens of an older form had come "
                    "there, perhaps, so that it would not know them; start it again: it waits for the cut-over by "
                    "itself"
                )
            else:
                found.notes.append(
                    f"{each.who} knows only PostgreSQL, and serves from the cut-over on; before a roll-back, name both "
                    "stores to it, with HOLDFAST_SQLITE_PATH and DATABASE_URL, and start it again, or stop it"
                )
        elif each.obstacle is not None and (noted or not each.configured):
            found.refusals.append(each.obstacle)
    return found


def _has_clear_tokens(path: Path) -> bool:
    """Whether a native file holds imported sessions, whose tokens have another form than ours."""
    made = reading_engine(path)
    try:
        with made.connect() as connection:
            return bool(connection.scalar(Statements(tables(None), Policy()).any_clear_token))
    finally:
        made.dispose()
