"""A legacy file is moved, and moved back: nobody is logged out, and what nobody touched stays as it was."""

import json
import re
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast import SessionManager, StoreOptions
from holdfast.legacy.zone import zone_named
from holdfast.move.conditions import Wishes
from holdfast.move.odd_rows import list_odd
from holdfast.move.processes import ProcessSeen, processes_seen
from holdfast.move.rows import SHAPES
from holdfast.move.state import MoveRefused
from holdfast.move.status import StatusReader
from tests.conftest import MigratedDatabases
from tests.legacy.conftest import berlin
from tests.legacy.old_application import OldSessionManager, legacy_file, local_now, text
from tests.move.legacy_place import ZONE, LegacyPlace, fill
from tests.move.old_writing import start, stopped
from tests.support.polling import eventually

__all__ = ["berlin"]
pytestmark = pytest.mark.usefixtures("berlin")


@pytest.fixture(params=["delete", "wal"])
def place(tmp_path: Path, migrated_database: MigratedDatabases, request: pytest.FixtureRequest) -> LegacyPlace:
    """A legacy file in either journal mode, and a database."""
    return LegacyPlace(legacy_file(tmp_path / "sessions.db", request.param), migrated_database(None))


# Where the journal's mode makes no difference.
ROLLBACK_JOURNAL = pytest.mark.parametrize("place", ["delete"], indirect=True)


async def meant(manager: SessionManager, tokens: Iterable[str]) -> dict[str, tuple[Any, ...] | None]:
    """What each token opens. Not the past times: one that is yet to come is taken for the time of the look."""
    found = {token: await manager.get_session(token) for token in tokens}
    return {
        token: None if each is None else (each.id, each.user_id, each.metadata, each.expires_at, each.request_count)
        for token, each in found.items()
    }


def ahead() -> str:
    """How far the zone of this process is from UTC: in Berlin not the same all the year."""
    return f"UTC{datetime.now(UTC).astimezone().isoformat()[-6:]}"


async def test_odd_rows_stay_logged_in_there_and_back(place: LegacyPlace) -> None:
    """Move 29, 35: every odd row is listed, live ones stay logged in, and after a round trip all bytes are the same."""
    tokens = fill(place.path)
    [(rows,)] = place.in_sqlite("SELECT count(*) FROM sessions")
    before = place.bytes_of_rows()
    found = list_odd(place.path, zone_named(ZONE))
    assert found is not None
    assert found.exact + found.repaired + found.quarantined == found.rows == rows
    assert len(found.odd) == found.repaired + found.quarantined
    assert min(found.exact, found.repaired, found.quarantined, found.quarantined_live) > 3
    assert not [
        each for token in tokens for each in found.odd if len(token) > 5 and token in json.dumps(each.as_json())
    ]
    wishes = Wishes(accept_quarantined=found.quarantined_live)
    async with place.following() as manager, place.mover(wishes=wishes) as mover:
        said = await meant(manager, tokens)
        assert {token for token, each in said.items() if each is not None} == {t for t, live in tokens.items() if live}
        await mover.start()
        assert (await mover.verify()).clean
        await mover.cut_over()
        assert await meant(manager, tokens) == said
        imported = await place.in_postgresql(
            "SELECT count(*) FILTER (WHERE session_id IS NULL) AS quarantined, "
            "count(*) FILTER (WHERE session_id IS NOT NULL) AS repaired FROM holdfast_imported"
        )
        assert tuple(imported[0]) == (found.quarantined, found.repaired)
        assert place.bytes_of_rows() == before
        await mover.roll_back()
        assert place.bytes_of_rows() == before
        assert await meant(manager, tokens) == said


async def test_what_is_changed_over_there_comes_back(place: LegacyPlace) -> None:
    """Move: after a roll-back the old application sees what was touched, ended and rotated, and no more."""
    old = OldSessionManager(place.path)
    tokens = [old.create_session(f"u{number}", {"n": number}) for number in range(8)]
    odd = "session-odd"
    place.in_sqlite(
        "INSERT INTO sessions SELECT ?, user_id, '{not json', created_at, replace(expires_at, ' ', 'T'), "
        "last_activity, 'many' FROM sessions WHERE session_id = ?",
        odd,
        tokens[0],
    )
    lost = old.create_session("u5")
    place.in_sqlite("UPDATE sessions SET expires_at = 'never' WHERE session_id = ?", lost)
    before = place.bytes_of_rows()
    wishes = Wishes(accept_quarantined=1, quiet=timedelta(0))
    async with place.following() as manager, place.mover(wishes=wishes) as mover:
        await mover.start()
        await mover.cut_over()
        assert await manager.validate_session(tokens[0]) is not None
        assert await manager.validate_session(odd) is not None
        assert await manager.delete_session(tokens[1])
        assert await manager.update_metadata(tokens[2], {"more": "é"}) is not None
        assert await manager.extend_session(tokens[3], 100) is not None
        rotated = await manager.rotate_session(tokens[4])
        assert rotated is not None
        new = await manager.create_session("u9", {"since": "then"})
        assert await manager.erase_user("u5")
        assert (await mover.verify()).clean
        await mover.roll_back()
        assert (await mover.verify()).clean
        for token in (rotated.token, new.token, tokens[0], tokens[6], odd):
            assert await manager.validate_session(token) is not None
        assert await manager.why_ended(tokens[1]) == "revoked"
        assert await manager.why_ended(tokens[4]) == "replaced"
    after = place.bytes_of_rows()
    key = ("text", tokens[7].encode().hex().upper())
    assert after[key] == before[key]
    assert old.get_session(tokens[0])[6] == 2  # type: ignore[index]  # it is there
    assert old.get_session(tokens[1]) is None
    assert json.loads(old.get_session(tokens[2])[2]) == {"n": 2, "more": "é"}  # type: ignore[index]  # it is there
    assert old.get_session(tokens[4]) is None
    assert old.get_session(tokens[5]) is None
    assert not place.in_sqlite("SELECT 1 FROM sessions WHERE user_id = 'u5'")
    metadata, count, expires = place.in_sqlite(
        "SELECT metadata, request_count, expires_at FROM sessions WHERE session_id = ?", odd
    )[0]
    assert metadata == "{not json"
    assert count == 2
    assert "T" in expires


async def test_the_old_application_writes_until_it_is_sealed_out(place: LegacyPlace) -> None:
    """Move 9, 16: what its processes wrote through start and copy is there; then the file refuses them in words."""
    old = OldSessionManager(place.path)
    shared = [old.create_session(f"u{number}") for number in range(20)]
    stop = place.path.with_name("stop")
    processes = [await start(place.path, shared, seed, stop) for seed in range(2)]
    async with place.mover(wishes=Wishes(quiet=timedelta(hours=1))) as mover:
        await mover.start()
        for refused in (mover.seal, mover.cut_over):
            with pytest.raises(MoveRefused, match="old application wrote"):
                await refused()
    said = await stopped(processes, stop)
    async with place.following() as manager, place.mover(wishes=Wishes(quiet=timedelta(0))) as mover:
        await mover.seal()
        with pytest.raises(sqlite3.IntegrityError, match="moved to another store"):
            old.create_session("u1")
        assert await manager.validate_session(shared[0]) is not None
        await mover.cut_over()
        with pytest.raises(sqlite3.IntegrityError, match="moved"):
            old.validate_session(shared[0])
        assert not [each["errors"] for each in said if each["errors"]]
        for number, token in enumerate(shared):
            session = await manager.get_session(token)
            assert session is not None
            assert session.request_count == sum(each["counted"][token] for each in said) + (number == 0)
        for each in said:
            for token in each["made"]:
                assert await manager.get_session(token) is not None
            for token in each["ended"]:
                assert await manager.get_session(token) is None
        await mover.roll_back()
        assert old.create_session("u1")
        assert (await mover.verify()).clean


@ROLLBACK_JOURNAL
async def test_live_rows_in_quarantine_stop_a_cut_over(place: LegacyPlace) -> None:
    """Move 40: a live row that cannot be carried is left behind only by its exact number."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    place.in_sqlite("UPDATE sessions SET expires_at = 'never'")
    for number in (0, 2):
        async with place.mover(wishes=Wishes(accept_quarantined=number)) as mover:
            await mover.start()
            with pytest.raises(MoveRefused, match="--accept-quarantined 1"):
                await mover.cut_over()
    async with place.mover(wishes=Wishes(accept_quarantined=1)) as mover:
        await mover.cut_over()
        await mover.roll_back()
    assert place.in_sqlite("SELECT expires_at FROM sessions WHERE session_id = ?", token) == [("never",)]


@ROLLBACK_JOURNAL
async def test_a_bad_expiry_is_extended_on_request(place: LegacyPlace) -> None:
    """Move: with `extend` a row of unreadable expiry is a session for a day, and comes back untouched."""
    token = OldSessionManager(place.path).create_session("u1")
    place.in_sqlite("UPDATE sessions SET expires_at = 'never'")
    before = place.bytes_of_rows()
    async with place.following() as manager, place.mover(wishes=Wishes(on_bad_expiry="extend")) as mover:
        assert await manager.get_session(token) is None
        await mover.start()
        await mover.cut_over()
        session = await manager.get_session(token)
        assert session is not None
        assert timedelta(hours=23) < session.expires_at - datetime.now(UTC) < timedelta(hours=25)
        await mover.roll_back()
        assert place.bytes_of_rows() == before


async def test_a_look_and_a_dry_run_change_nothing(place: LegacyPlace) -> None:
    """Move 42: whoever only looks at a legacy file leaves it as it is."""
    OldSessionManager(place.path).create_session("u1")
    before = place.all_of_it()
    async with place.mover() as mover:
        look = await mover.look()
        with pytest.raises(MoveRefused, match="no move is under way"):
            await mover.cut_over()
    list_odd(place.path, zone_named(ZONE))
    async with StatusReader(place.path, place.address) as reader:
        assert (await reader.read()).authority in (None, "sqlite")
    assert look.sqlite.move is None
    assert place.all_of_it() == before


async def test_a_completed_move_leaves_no_token_anywhere(place: LegacyPlace) -> None:
    """Move: after `complete` no token is in clear anywhere, and the old application is refused when it starts again."""
    old = OldSessionManager(place.path)
    tokens = [old.create_session(f"u{number}", {"n": number}) for number in range(50)]
    gone = old.create_session("u1")
    old.delete_session(gone)
    place.in_sqlite("UPDATE sessions SET metadata = '{not json' WHERE user_id = 'u7'")
    async with place.following() as manager:
        async with place.mover() as mover:
            await mover.start()
            await mover.cut_over()
            await mover.complete()
        for token in tokens:
            assert await manager.validate_session(token) is not None
    files = [each for each in place.path.parent.iterdir() if each.name.startswith(place.path.name)]
    bytes_left = b"".join(each.read_bytes() for each in files)
    assert not [token for token in (*tokens, gone) if token.encode() in bytes_left]
    for table in SHAPES:
        dumped = "\n".join(str(row) for row in await place.in_postgresql(f"SELECT t::text FROM {table} AS t"))
        assert not [token for token in tokens if token in dumped]
    again = OldSessionManager(place.path)
    with pytest.raises(sqlite3.IntegrityError, match="moved to another store"):
        again.create_session("u1")
    async with place.following() as manager:
        assert await manager.validate_session(tokens[3]) is not None


@ROLLBACK_JOURNAL
async def test_an_aborted_move_leaves_the_file_as_it_was(place: LegacyPlace) -> None:
    """Move: after `abort` nothing of the move is in the file, and both the old application and Holdfast write on."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    before = place.bytes_of_rows()
    async with place.following() as manager:
        async with place.mover() as mover:
            await mover.start()
            await mover.abort()
        assert place.bytes_of_rows() == before
        left = place.in_sqlite("SELECT name FROM sqlite_master WHERE substr(name, 1, 14) = 'holdfast_move_'")
        assert not left
        assert await manager.validate_session(token) is not None
        assert old.validate_session(token)


@ROLLBACK_JOURNAL
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
async def test_another_zone_than_the_writers_is_found(place: LegacyPlace, zone: str) -> None:
    """Move 33: an old application that writes by another clock than the configured one is found by its writes."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    options = StoreOptions(legacy_tz=zone)
    found = list_odd(place.path, zone_named(zone))
    assert found is not None
    # Times to come are seen at once; times that have passed, once a write was heard.
    assert ("not come yet" in (found.objection or "")) == (zone == "UTC")
    async with place.mover(options=options) as mover:
        await mover.start()
        for _ in range(3):
            old.validate_session(token)
        await mover.look()
        heard = list_odd(place.path, zone_named(zone))
        assert heard is not None
        assert f"writes times of {ahead()}" in (heard.objection or "")
        with pytest.raises(MoveRefused, match=rf"writes times of {re.escape(ahead())}.*HOLDFAST_LEGACY_TZ"):
            await mover.start()
    async with place.mover(options=options, wishes=Wishes(trust_zone=True)) as mover:
        await mover.start()
    async with place.mover() as mover:
        await mover.start()
        [(created,)] = await place.in_postgresql("SELECT created_at FROM sessions")
        assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
        assert (await mover.verify()).clean


@ROLLBACK_JOURNAL
async def test_two_zones_are_refused_whatever_is_said(place: LegacyPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move 33: processes of the old application in two zones make a table that no zone reads rightly."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    async with place.mover(wishes=Wishes(trust_zone=True)) as mover:
        await mover.start()
        old.validate_session(token)
        here = ahead()
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        place.in_sqlite("UPDATE sessions SET last_activity = ?", text(local_now()))
        with pytest.raises(MoveRefused, match=re.escape(f"different zones ({ahead()} and {here})")):
            await mover.start()


@ROLLBACK_JOURNAL
@pytest.mark.parametrize("kept", [False, True])
async def test_new_sessions_come_back_to_the_old_application_on_request(place: LegacyPlace, kept: bool) -> None:
    """Move: a session made in PostgreSQL is known to Holdfast after a roll-back in any case; to the old application
    only if its token was kept in clear, which nothing but the request makes happen.
    """
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    async with place.following() as manager, place.mover(wishes=Wishes(keep_way_back=kept)) as mover:
        await mover.start()
        await mover.cut_over()
        new = await manager.create_session("u2")
        rotated = await manager.rotate_session(token)
        assert rotated is not None
        tables = await place.in_postgresql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        clear = [str(await place.in_postgresql(f"SELECT t::text FROM {name} AS t")) for (name,) in tables]
        assert any(new.token in each for each in clear) is kept
        await mover.roll_back()
        assert await manager.validate_session(new.token) is not None
        assert await manager.validate_session(rotated.token) is not None
        assert await manager.validate_session(token) is None
        assert (old.get_session(new.token) is not None) is kept
        assert (old.get_session(rotated.token) is not None) is kept
        assert old.get_session(token) is None
        assert (await mover.verify()).clean
        await mover.cut_over()
        assert await manager.validate_session(new.token) is not None
        await mover.complete()
        assert not await place.in_postgresql("SELECT 1 FROM pg_class WHERE relname LIKE 'holdfast_move%'")
        assert await manager.validate_session(rotated.token) is not None


@ROLLBACK_JOURNAL
async def test_processes_on_a_legacy_file_are_known(place: LegacyPlace) -> None:
    """Registry: one that follows is seen in both stores; one that knows the file only is an obstacle."""

    async def seen() -> list[ProcessSeen]:
        return await processes_seen(place.path, place.address)

    async with place.following():

        async def follows() -> bool:
            return [each.can_follow for each in await seen()] == [True]

        await eventually(follows, what="this process is seen in both stores")
    assert await seen() == []
    async with SessionManager(place.path, sweep_interval=None):

        async def obstacle() -> bool:
            return any("knows only the SQLite file" in (each.obstacle or "") for each in await seen())

        await eventually(obstacle, what="this process is seen in the file")


@ROLLBACK_JOURNAL
async def test_what_was_written_again_after_its_end_stays_over(place: LegacyPlace) -> None:
    """Move 21: a row that the old application writes once more after a log-out is nobody's session, there and back."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    again = "INSERT INTO sessions SELECT ?, user_id, metadata, created_at, expires_at, last_activity, 0 FROM sessions"
    other = old.create_session("u2")
    async with place.following() as manager, place.mover(wishes=Wishes(quiet=timedelta(0))) as mover:
        await mover.start()
        assert await manager.delete_session(token)
        place.in_sqlite(f"{again} WHERE session_id = ?", token, other)
        assert await manager.get_session(token) is None
        await mover.cut_over()
        assert await manager.get_session(token) is None
        assert await manager.why_ended(token) == "revoked"
        # Long after, when nothing is kept of the end any more.
        await place.in_postgresql("DELETE FROM sessions WHERE ended_at IS NOT NULL")
        await mover.roll_back()
        assert await manager.get_session(token) is None
        assert not place.in_sqlite("SELECT 1 FROM sessions WHERE session_id = ?", token)
        assert await manager.get_session(other) is not None


@ROLLBACK_JOURNAL
async def test_whoever_goes_on_with_a_move_reads_as_it_does(place: LegacyPlace) -> None:
    """Move 33: a mover in another zone, as a server may be that finishes a cut-over, changes no time."""
    old = OldSessionManager(place.path)
    token = old.create_session("u1")
    before = place.bytes_of_rows()
    elsewhere = StoreOptions(legacy_tz="Asia/Kolkata")
    async with place.following() as manager:
        said = await manager.get_session(token)
        async with place.mover() as mover:
            await mover.start()
        async with place.mover(options=elsewhere) as mover:
            await mover.cut_over()
            assert await manager.get_session(token) == said
            assert await manager.extend_session(token, 1) is not None
            await mover.roll_back()
        assert await manager.get_session(token) == said
    assert place.bytes_of_rows() == before
