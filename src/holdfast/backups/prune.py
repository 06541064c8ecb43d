"""Clear old backups away, and never the last that is known to be good."""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.backups.archive import NAME, PARTIAL, SUFFIX, Backup, Tell, read, refuse_open, sync, tell_nobody, verify
from holdfast.sessions.errors import StoreRefused

_LEFTOVER: Final = re.compile(NAME.pattern + re.escape(PARTIAL))
_LEFTOVER_AGE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did, or would do."""

    removed: list[Path]
    """Backups past their time."""
    leftovers: list[Path]
    """What killed commands left behind, more than a day ago."""
    kept: list[Path]
    """Backups that stay."""
    damaged: list[Path]
    """Among those that stay, the ones that are not as they were written."""
    strange: list[Path]
    """What is named like a backup but has no manifest of ours: it is left alone."""


def prune(
    directory: Path,
    keep: timedelta,
    *,
    dry: bool = False,
    now: datetime | None = None,
    tell: Tell = tell_nobody,
) -> Pruned:
    """Remove the backups that are older, by this machine's clock; with `dry` only say which.

    The newest good backup of each store stays, however old it is. Safe to repeat, and to be killed: what is half
    removed does not count as a backup any more. Raises `StoreRefused` for a directory that others may change.
    """
    result = Pruned([], [], [], [], [])
    if not os.path.lexists(directory):
        return result
    if not directory.is_dir():
        raise StoreRefused(f"{directory} is not a directory; give another one with --directory")
    refuse_open(directory.resolve())
    now = now or datetime.now(UTC)  # noqa: TID251 - no database is asked for its clock here
    newest: dict[tuple[str, UUID | str | None], Path] = {}
    for backup in sorted(_backups(directory, result), key=lambda each: each.manifest.taken_at, reverse=True):
        store = (backup.manifest.kind, backup.manifest.store_id or backup.manifest.source)
        if store not in newest:
            if _is_good(backup):
                newest[store] = backup.path
            else:
                result.damaged.append(backup.path)
        if newest.get(store) == backup.path or now - backup.manifest.taken_at <= keep:
            result.kept.append(backup.path)
            continue
        result.removed.append(backup.path)
    _leftovers(directory, now, result)
    if not dry:
        for path in (*result.removed, *result.leftovers):
            # Another prune that is at work may have it by now.
            with suppress(FileNotFoundError):
                _remove(path, tell)
    return result


def _backups(directory: Path, result: Pruned) -> list[Backup]:
    found = []
    for path in sorted(directory.iterdir()):
        if not path.name.endswith(SUFFIX):
            continue
        try:
            found.append(read(path))
        except StoreRefused:
            result.strange.append(path)
    return found


def _is_good(backup: Backup) -> bool:
    try:
        verify(backup)
    except StoreRefused:
        return False
    return True


def _leftovers(directory: Path, now: datetime, result: Pruned) -> None:
    for path in sorted(directory.iterdir()):
        if _LEFTOVER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            # A backup that is at work may be published, or given up, at this moment.
            with suppress(FileNotFoundError):
                changed = max(each.stat().st_mtime for each in (path, *path.iterdir()))
                if now - datetime.fromtimestamp(changed, UTC) > _LEFTOVER_AGE:
                    result.leftovers.append(path)


def _remove(path: Path, tell: Tell) -> None:
    """First it stops being a backup, on the disk too; then its files go."""
    if not path.name.endswith(PARTIAL):
        path = path.rename(path.with_name(f"{path.name}{PARTIAL}"))
        sync(path.parent)
        tell("unnamed", 0)
    for each in sorted(path.iterdir()):
        each.unlink()
        tell("emptying", 0)
    shutil.rmtree(path)
    tell("removed", 0)
