"""Legacy rows beyond every limit are moved: metadata of megabytes, of very many keys, and very long tokens."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import InvalidArgument
from holdfast.legacy.zone import zone_named
from holdfast.move.conditions import Wishes
from holdfast.move.odd_rows import list_odd
from holdfast.move.state import MoveRefused
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file
from tests.move.legacy_place import ZONE, LegacyPlace

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")

NO_WAIT = Wishes(quiet=timedelta(0))


@pytest.fixture
def place(tmp_path: Path, migrated_database: MigratedDatabases) -> LegacyPlace:
    """A legacy file, and a database."""
    return LegacyPlace(legacy_file(tmp_path / "sessions.db"), migrated_database(None))


async def kept_of(place: LegacyPlace) -> list[tuple[str, dict[str, object]]]:
    """What PostgreSQL keeps of the rows that are not exact: what is said of each, and its original."""
    rows = await place.in_postgresql("SELECT remarks, original FROM holdfast_imported ORDER BY remarks")
    return [(row["remarks"], json.loads(row["original"])) for row in rows]


async def test_metadata_of_megabytes_costs_nobody_his_session(place: LegacyPlace) -> None:
    """Move 36: more than can be kept becomes empty, its original stays beside it, and it goes back as it was."""
    old = OldSessionManager(place.path)
    said = {"a": "é" * 2_600_000}
    large, plain = old.create_session("u1", said), old.create_session("u2", {"b": 1})
    before = place.bytes_of_rows()
    found = list_odd(place.path, zone_named(ZONE))
    assert found is not None
    assert found.remarks == {"metadata is larger than can be kept": 1}
    async with place.following() as manager, place.mover(wishes=NO_WAIT) as mover:
        await mover.start()
        await mover.cut_over()
        session = await manager.get_session(large)
        assert session is not None
        assert session.metadata == {}
        assert (await manager.get_session(plain)) is not None
        [(remarks, original)] = await kept_of(place)
        assert remarks == "metadata is larger than can be kept"
        assert json.loads(str(original["metadata"])) == said
        assert (await mover.verify()).clean
        await mover.roll_back()
        assert place.bytes_of_rows() == before
        assert await manager.get_session(large) is not None
    assert json.loads(old.get_session(large)[2]) == said  # type: ignore[index]  # it is there


async def test_twenty_thousand_keys_go_there_and_back(place: LegacyPlace) -> None:
    """Move 36: metadata beyond the limits is kept and read as it is; it can be made smaller, and not larger."""
    old = OldSessionManager(place.path)
    said = {f"key-{number}": number for number in range(20_000)}
    tokens = [old.create_session("u1", said) for _ in range(2)]
    before = place.bytes_of_rows()
    async with place.following() as manager, place.mover(wishes=NO_WAIT) as mover:
        await mover.start()
        await mover.cut_over()
        for token in tokens:
            session = await manager.get_session(token)
            assert session is not None
            assert session.metadata == said
        assert [remarks for remarks, _ in await kept_of(place)] == ["metadata is beyond the limits"] * 2
        assert (await mover.verify()).clean
        with pytest.raises(InvalidArgument, match="20001 keys; at most 64"):
            await manager.update_metadata(tokens[0], {"one more": True})
        less = await manager.update_metadata(tokens[0], dict.fromkeys(list(said)[3:]))
        assert less is not None
        assert less.metadata == {"key-0": 0, "key-1": 1, "key-2": 2}
        await mover.roll_back()
    assert json.loads(old.get_session(tokens[0])[2]) == less.metadata  # type: ignore[index]  # it is there
    assert json.loads(old.get_session(tokens[1])[2]) == said  # type: ignore[index]  # it is there
    after = place.bytes_of_rows()
    key = ("text", tokens[1].encode().hex().upper())
    assert after[key] == before[key]


async def test_a_token_of_three_thousand_bytes_waits_for_the_operator(place: LegacyPlace) -> None:
    """Move 36, 40: a key that no session can have holds the cut-over up until it is accepted; it stays in the file."""
    old = OldSessionManager(place.path)
    plain, long = old.create_session("u1"), "k" * 3000
    place.in_sqlite(
        "INSERT INTO sessions SELECT ?, 'u2', metadata, created_at, expires_at, last_activity, 7 FROM sessions", long
    )
    before = place.bytes_of_rows()
    async with place.following() as manager, place.mover(wishes=NO_WAIT) as mover:
        await mover.start()
        with pytest.raises(MoveRefused, match="--accept-quarantined 1"):
            await mover.cut_over()
        assert await manager.validate_session(plain) is not None
    async with place.mover(wishes=Wishes(accept_quarantined=1, quiet=timedelta(0))) as mover:
        await mover.start()
        await mover.cut_over()
        [(remarks, original)] = await kept_of(place)
        assert remarks == "session_id is too long"
        assert original["request_count"] == 7
        assert long not in str(await place.in_postgresql("SELECT * FROM holdfast_imported"))
        await mover.roll_back()
    key = ("text", long.encode().hex().upper())
    assert place.bytes_of_rows()[key] == before[key]
