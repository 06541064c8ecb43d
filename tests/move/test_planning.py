"""What a plan finds on the side of PostgreSQL: rights that are missing, and a server that takes no writes."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from holdfast import StoreOptions, StoreUnavailable
from holdfast.move.planning import plan
from holdfast.sql import schema
from tests.move.bench import Place
from tests.support.admin import with_login
from tests.support.postgres import PostgresCluster

ROLE = "holdfast_test_planner"


async def refused(place: Place, address: str) -> dict[str, str]:
    """What stands in the way of a move there, and what to do about it."""
    made = await plan(place.path, address, StoreOptions(), backups=None)
    return {each.what: each.remedy for each in made.refusals}


async def begin(place: Place) -> None:
    """Start a move as if nobody had looked at a plan."""
    async with place.mover(patience=0.0) as mover:
        await mover.start()


async def test_a_plan_names_the_rights_that_are_missing(place: Place) -> None:
    """Move 44: one role at a time gets what it lacks, by the remedy's own words, until nothing stands in the way."""
    poor = with_login(place.address, ROLE, "poor")
    owner = (await place.in_postgresql("SELECT current_user"))[0][0]
    await place.in_postgresql(f"DROP ROLE IF EXISTS {ROLE}")
    await place.in_postgresql(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'poor'")
    try:
        assert await refused(place, place.address) == {}
        [(what, remedy)] = (await refused(place, poor)).items()
        assert "the database user lacks a privilege" in what
        await place.in_postgresql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}")
        found = await refused(place, poor)
        assert found.pop(f"role {ROLE} may not create tables in schema 'public'").startswith("GRANT CREATE ON SCHEMA")
        [(what, remedy)] = found.items()
        assert what.startswith(f"role {ROLE} does not own holdfast_control, holdfast_imported")
        assert "may not close them to writers" in what
        assert "the role that ran `holdfast db upgrade`" in remedy
        await place.in_postgresql(f"GRANT CREATE ON SCHEMA public TO {ROLE}")
        await place.in_postgresql(f'GRANT "{owner}" TO {ROLE}')
        assert await refused(place, poor) == {}
    finally:
        await place.in_postgresql(f"DROP OWNED BY {ROLE}")
        await place.in_postgresql(f"DROP ROLE {ROLE}")


async def test_a_plan_tells_a_standby(tmp_path: Path, broken_postgres: Callable[..., PostgresCluster]) -> None:
    """Move 44: the address of a real standby is refused, and so is a server that was told to take no writes."""
    primary = await asyncio.to_thread(broken_postgres)
    await schema.upgrade(primary.address())
    await schema.upgrade(tmp_path / "sessions.db")
    place = Place(tmp_path / "sessions.db", primary.address())
    standby = await asyncio.to_thread(primary.standby)
    try:
        for server in (standby, primary):
            if server is primary:
                await asyncio.to_thread(primary.force_read_only)
            [(what, remedy)] = (await refused(place, server.address())).items()
            assert what.endswith("none of its hosts takes writes")
            assert remedy == "give the address of the primary"
            with pytest.raises(StoreUnavailable, match="give the address of the primary"):
                await begin(Place(place.path, server.address()))
    finally:
        standby.remove()


async def test_a_plan_finds_that_a_backup_has_no_room(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory need not be there: the free space of the nearest one above it counts."""
    directory = tmp_path / "not" / "there"

    def full(there: Path) -> SimpleNamespace:
        assert there == tmp_path
        return SimpleNamespace(free=4096)

    monkeypatch.setattr(shutil, "disk_usage", full)
    made = await plan(place.path, place.address, StoreOptions(), backups=directory)
    [refusal] = made.refusals
    assert refusal.what.startswith(f"there is no room for a backup in {directory}: about ")
    assert refusal.what.endswith("bytes are needed, 4,096 are free")
