"""What a backup says about itself: `manifest.json`, without which nothing is taken for a backup."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

from holdfast.sessions.errors import StoreRefused

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"

Kind = Literal["sqlite", "postgresql", "legacy", "table"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a backup, as it was when it was verified."""

    sha256: str
    size: int
    """In bytes."""
    rows: dict[str, int]
    """Rows of each table in it."""
    columns: list[str] = field(default_factory=list)
    """In the order of the file; empty for a SQLite file, which knows its own."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of one backup."""

    holdfast: str
    """The version of the program that took it."""
    kind: Kind
    """`legacy` is a SQLite file that is not Holdfast's, kept page by page; `table` an application's in PostgreSQL."""
    revision: str | None
    """Of the schema; `None` for what is not Holdfast's."""
    store_id: UUID | None
    """Of the store; `None` for what is not Holdfast's, and before the revision that brought it."""
    authority: str | None
    """`here` when the store accepted writes."""
    taken_at: datetime
    """By the database's clock, before the first row was read."""
    files: dict[str, DataFile]
    source: str | None = None
    """Which file or table it is of, where that has no `store_id` to tell it from others."""

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {table: rows for file in self.files.values() for table, rows in file.rows.items()}

    def text(self) -> str:
        """As it is written."""
        values = {"format": FORMAT, **asdict(self)}
        values |= {"store_id": self.store_id and str(self.store_id), "taken_at": self.taken_at.isoformat()}
        return json.dumps(values, indent=2) + "\n"


def parse(text: str | bytes, where: object) -> Manifest:
    """Read a manifest. Raises `StoreRefused` when it is none, or one of a later format."""
    try:
        values: dict[str, Any] = json.loads(text)
        version = values.pop("format")
        if isinstance(version, int) and version > FORMAT:
            raise StoreRefused(f"{where} was taken by a newer version of Holdfast; install that version")
        files = {name: DataFile(**file) for name, file in values.pop("files").items()}
        store_id, taken_at = values.pop("store_id"), datetime.fromisoformat(values.pop("taken_at"))
        manifest = Manifest(
            files=files, store_id=None if store_id is None else UUID(store_id), taken_at=taken_at, **values
        )
        known = version == FORMAT and manifest.kind in get_args(Kind)
        plain = all(isinstance(name, str) and name.isprintable() and "/" not in name for name in files)
        whole = files and all(isinstance(file.size, int) and isinstance(file.rows, dict) for file in files.values())
        if not (known and plain and whole and taken_at.tzinfo is not None):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StoreRefused(f"{where} has no manifest that Holdfast can read: it is no backup of Holdfast's") from None
    return manifest
