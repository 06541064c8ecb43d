"""What every restore has in common: what is asked for, what is refused, and what is told of it."""

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from holdfast.backups.archive import Backup
from holdfast.backups.merging import Merged
from holdfast.sessions.errors import AuthorityMoved, StoreRefused


@dataclass(frozen=True, slots=True)
class Wishes:
    """What only an operator can decide."""

    from_another_store: bool = False
    """Take a backup of another store too."""
    keep_sessions_live: bool = False
    """Let sessions come back live of which nobody knows whether they ended since the backup."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    merged: Merged
    before: Path | None = None
    """The backup that was taken of what was there; `None` when there was nothing that could be read."""
    aside: list[Path] = field(default_factory=list)
    """Where the files of a damaged store are now."""


def is_known(
    backup: Backup, where: str, store_id: UUID | None, sessions: int, authority: str | None, wishes: Wishes
) -> bool:
    """Whether the store that is there can tell what ended since the backup: it is the one the backup is of.

    Raises `StoreRefused` when it is another one that has sessions, unless that is wished for, and `AuthorityMoved`
    when it takes no writes.
    """
    if authority not in (None, "here"):
        raise AuthorityMoved(f"{where} does not accept writes: another store holds the authority; nothing was restored")
    if store_id is not None and store_id == backup.manifest.store_id:
        return True
    if sessions and not wishes.from_another_store:
        raise StoreRefused(
            f"{backup.path} is a backup of another store than {where}, which has sessions of its own; nothing was "
            "restored. Add --from-another-store to take it all the same"
        )
    return False


def refuse_stale(backup: Backup) -> None:
    """Raise `StoreRefused` for a backup of a store that was not the one in use when it was taken."""
    if backup.manifest.authority not in (None, "here"):
        raise StoreRefused(
            f"{backup.path} is of a store that did not accept writes when it was taken: another one had the newer "
            "sessions; use a backup of that one"
        )
