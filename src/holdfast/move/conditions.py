"""What has to hold before a legacy file is moved, and what an operator may say to it. A native one has no such rows."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from holdfast.legacy.rows import OnBadExpiry
from holdfast.move.clocks import refuse_other_zone
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import MoveRefused

QUIET: Final = timedelta(seconds=10)
"""How long the old application has to have written nothing before its writes are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator has said of a legacy file. Of no account for a native one."""

    on_bad_expiry: OnBadExpiry = "quarantine"
    """What becomes of a row whose expiry cannot be read."""
    accept_quarantined: int = 0
    """How many live rows may be left behind at a cut-over: exactly this number."""
    trust_zone: bool = False
    """Whether the zone is right although the old application's writes look like another one's."""
    quiet: timedelta = QUIET
    """How long the old application has to have written nothing before a cut-over, or before it is sealed out."""
    keep_way_back: bool = False
    """Whether PostgreSQL keeps the tokens of new sessions in clear, so that a roll-back gives them to the old
    application too."""


def refuse_start(side: SqliteSide, wishes: Wishes) -> None:
    """Raise `MoveRefused` when the old application writes by the clock of another zone than the file is read in."""
    refuse_other_zone(side.clocks(), side.zone, trusted=wishes.trust_zone)


def refuse_cut_over(side: SqliteSide, wishes: Wishes) -> None:
    """Raise `MoveRefused` when somebody would be logged out by a cut-over, or the old application still writes."""
    refuse_start(side, wishes)
    live = side.quarantined_live()
    if live != wishes.accept_quarantined:
        raise MoveRefused(
            f"{live} rows by which somebody may be logged in cannot be carried, and {wishes.accept_quarantined} were "
            "accepted; look at the reasons with `holdfast move plan`, and mend the rows, or leave them behind with "
            f"--accept-quarantined {live}"
        )
    refuse_writing(side, wishes)


def refuse_writing(side: SqliteSide, wishes: Wishes) -> None:
    """Raise `MoveRefused` unless the old application has written nothing for long enough.

    Once it is refused, nobody sees what it tries to write.
    """
    ago = side.written_by_others()
    if ago is not None and ago < wishes.quiet:
        raise MoveRefused(
            f"the old application wrote to the file {ago.total_seconds():.1f} s ago; stop all its processes, and try "
            f"again when it has written nothing for {wishes.quiet.total_seconds():g} s, or say --quiet 0 if its writes "
            "may be refused from one moment to the next"
        )
