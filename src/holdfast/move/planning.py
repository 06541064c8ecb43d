"""What a move would do, and what stands in its way: for an operator who has not begun it. Changes nothing."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from holdfast.backups.room import SPARE_BYTES, free_in
from holdfast.legacy.form import has_legacy_form
from holdfast.legacy.rows import OnBadExpiry
from holdfast.legacy.zone import zone_named
from holdfast.move.addresses import addresses
from holdfast.move.clock_difference import NOTICED_SECONDS, seconds_ahead_of_here
from holdfast.move.failures import of_two
from holdfast.move.obstacles import obstacles_among
from holdfast.move.odd_rows import list_odd
from holdfast.move.planning_postgresql import OLDEST, PostgresqlAsked
from holdfast.move.planning_sqlite import journal_mode, read_native
from holdfast.move.postgresql_side import ENCODINGS, UTF_8
from holdfast.move.processes import ProcessSeen, processes_seen
from holdfast.move.state import MoveRefused
from holdfast.move.status import MoveStatus, StatusReader
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.sqlite_file import size_of
from holdfast.sql.sqlite_library import OLDEST_SQLITE

_MOST_NAMED: Final = 5
# What copying and comparing a row takes against reading and understanding it, as `plan` does: measured, and rough.
_TIMES: Final = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stands in the way of a move, or that its operator should know."""

    what: str
    remedy: str

    @classmethod
    def of(cls, error: HoldfastError, store: str = "") -> "Finding":
        """What a refusal says of a store: first what, and after the first semicolon what to do."""
        named = str(error).startswith(("SQLite file ", "PostgreSQL "))
        what, _, remedy = f"{'' if named else store}{error}".partition("; ")
        return cls(what, remedy or "see what the message says")


@dataclass(slots=True)
class Plan:
    """What a move would do."""

    sqlite: dict[str, Any] = field(default_factory=dict)
    """Facts about the file: its path, form, size in bytes, the library's version, the journal's mode."""
    postgresql: dict[str, Any] = field(default_factory=dict)
    """Facts about the database: its address without the password, version, role, schema."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows of each table would be copied."""
    classes: dict[str, Any] = field(default_factory=dict)
    """How many rows are `exact`, `repaired` and `quarantined`, which adds up to the rows; of a legacy file more."""
    seconds: float | None = None
    """About how long copying and comparing takes; `None` when nobody can say."""
    status: MoveStatus | None = None
    """Where a move stands already; `None` when the stores could not be asked."""
    processes: list[ProcessSeen] = field(default_factory=list)
    """The processes that use either store."""
    refusals: list[Finding] = field(default_factory=list)
    """What has to be done before a move can begin."""
    notices: list[Finding] = field(default_factory=list)
    """What does not stand in its way."""

    def refuse(self, what: str, remedy: str) -> None:
        """Add something that stands in the way."""
        self.refusals.append(Finding(what, remedy))

    def notice(self, what: str, remedy: str) -> None:
        """Add something that does not."""
        self.notices.append(Finding(what, remedy))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "status"}
        values["processes"] = [
            {**asdict(each), "stores": list(each.stores), "obstacle": each.obstacle} for each in self.processes
        ]
        values |= {name: [asdict(each) for each in values[name]] for name in ("refusals", "notices")}
        return {**values, "phase": self.status and self.status.phase, "ready": not self.refusals}


async def plan(
    sqlite: Path,
    postgresql: str,
    options: StoreOptions,
    *,
    backups: Path | None,
    on_bad_expiry: OnBadExpiry = "quarantine",
    tell: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Look at both stores, read every row of the file, and say what a move would do and what stands in its way.

    `tell` hears now and then how many rows were read. Raises `InvalidArgument` for what is no address.
    """
    made = Plan()
    left, entered = addresses(sqlite, postgresql)
    readable = await _look_at_file(made, left, options)
    reachable = await _look_at_postgresql(made, entered, options)
    if readable:
        await asyncio.to_thread(_read_rows, made, left.path, options, on_bad_expiry, tell)
        if backups is not None:
            _look_for_room(made, left.path, backups)
    if readable and reachable:
        await _look_at_both(made, left, entered, options)
    return made


async def _look_at_file(made: Plan, address: SqliteAddress, options: StoreOptions) -> bool:
    """Whether the rows can be read."""
    legacy = has_legacy_form(address.path)
    made.sqlite = {
        "path": str(address.path),
        "form": "legacy" if legacy else "native",
        "library": sqlite3.sqlite_version,
    }
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        made.refuse(f"SQLite {sqlite3.sqlite_version} is too old", f"use {oldest} or newer")
    try:
        if not legacy and (problem := await schema.check(address, options)) is not None:
            made.refusals.append(Finding.of(of_two(MoveRefused(problem), "SQLite"), "the SQLite file: "))
            return False
        made.sqlite |= {
            "bytes": size_of(address.path),
            "journal_mode": await asyncio.to_thread(journal_mode, address.path),
        }
    except HoldfastError as error:
        made.refusals.append(Finding.of(error))
        return False
    return True


async def _look_at_postgresql(made: Plan, address: PostgresqlAddress, options: StoreOptions) -> bool:
    """Whether its tables can be asked."""
    made.postgresql = {"address": str(address), "schema": options.schema}
    asked = PostgresqlAsked(address, options)
    try:
        before = datetime.now(UTC)  # noqa: TID251 - this machine's clock is what is looked at: it is SQLite's
        facts = await asked.facts()
        apart = seconds_ahead_of_here(before, facts["now"], datetime.now(UTC))  # noqa: TID251 - as above
        made.postgresql |= {"version": facts["version"], "role": facts["role"], "clock_seconds": round(apart, 3)}
        if facts["major"] < OLDEST:
            made.refuse(f"PostgreSQL {facts['version']} is too old", f"use {OLDEST} or newer")
        if facts["read_only"]:
            made.refuse("this server takes no writes: it is a standby, or read-only", "give the address of the primary")
        if facts["encoding"] not in ENCODINGS:
            made.refuse(f"the database has the encoding {facts['encoding']}, which has no place for every text", UTF_8)
        if abs(apart) > NOTICED_SECONDS:
            made.notice(
                f"the clocks of this machine and of PostgreSQL are {abs(apart):,.1f} s apart",
                "let both follow a time server: sessions live by so much longer or shorter after the cut-over",
            )
        await schema.require(address, options)
        if not facts["may_create"]:
            made.refuse(
                f"role {facts['role']} may not create tables in schema {options.schema!r}",
                f"GRANT CREATE ON SCHEMA {options.schema}, or move as the owner of the tables",
            )
        if tables := await asked.not_owned():
            made.refuse(
                f"role {facts['role']} does not own {', '.join(tables)}, and may not close them to writers",
                "give the address with the role that ran `holdfast db upgrade`",
            )
    except HoldfastError as error:
        made.refusals.append(Finding.of(of_two(error, "PostgreSQL"), "PostgreSQL: "))
        return False
    finally:
        await asked.close()
    return True


async def _look_at_both(made: Plan, left: SqliteAddress, entered: PostgresqlAddress, options: StoreOptions) -> None:
    asked = PostgresqlAsked(entered, options)
    try:
        async with StatusReader(left.path, entered.dsn, options) as reader:
            made.status = status = await reader.read(count=False)
            strange = reader.strange
        made.processes = await processes_seen(left.path, entered.dsn, options)
        found_obstacles = await obstacles_among(made.processes, "postgresql", left.path)
        for obstacle in (*found_obstacles.refusals, *found_obstacles.notes):
            made.notice(*obstacle.split("; ", 1))
        if strange is not None:
            made.refusals.append(Finding.of(MoveRefused(strange)))
        elif status.phase is not None:
            made.notice(f"a move is under way: it is {status.phase}", "`holdfast move status` says more")
        elif status.authority == "postgresql":
            made.refuse(
                "the sessions were moved already, and PostgreSQL holds them",
                "nothing is left to move; point all processes at PostgreSQL alone",
            )
        elif found := await asked.sessions():
            made.refuse(f"PostgreSQL has {found:,} sessions of its own", "move into an empty database or schema")
    except HoldfastError as error:
        made.refusals.append(Finding.of(error))
    finally:
        await asked.close()


def _read_rows(
    made: Plan, path: Path, options: StoreOptions, on_bad_expiry: OnBadExpiry, tell: Callable[[int], None]
) -> None:
    began = time.monotonic()
    try:
        found = list_odd(path, zone_named(options.legacy_tz), on_bad_expiry=on_bad_expiry, tell=tell)
        if found is not None:
            made.rows, made.classes = {"sessions": found.exact + found.repaired}, found.as_json()
            if found.objection is not None:
                made.notices.append(Finding.of(MoveRefused(found.objection)))
            if found.quarantined_live:
                made.notice(
                    f"{found.quarantined_live:,} quarantined rows may log somebody in, and would not be moved",
                    "mend them, or acknowledge exactly this number when you cut over",
                )
        else:
            made.rows, damaged = read_native(path, tell)
            total = sum(made.rows.values())
            made.classes = {"rows": total, "exact": total - len(damaged), "repaired": 0, "quarantined": 0}
            if damaged:
                made.classes["damaged"] = len(damaged)
                more = "; …" if len(damaged) > _MOST_NAMED else ""
                made.refuse(
                    f"{len(damaged):,} rows are damaged ({'; '.join(damaged[:_MOST_NAMED])}{more})",
                    "end these sessions, or mend their rows",
                )
    except HoldfastError as error:
        made.refusals.append(Finding.of(error))
        return
    made.seconds = round((time.monotonic() - began) * _TIMES, 1)


def _look_for_room(made: Plan, path: Path, backups: Path) -> None:
    needed, free = size_of(path) + SPARE_BYTES, free_in(backups)
    if free < needed:
        made.refuse(
            f"there is no room for a backup in {backups}: about {needed:,} bytes are needed, {free:,} are free",
            "make room, or name another directory with HOLDFAST_BACKUP_DIRECTORY",
        )
