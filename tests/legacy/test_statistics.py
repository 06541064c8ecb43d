"""What `sessions stats` says of a legacy file: the same as of a native one, as far as it can be known."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast import SessionManager
from holdfast.legacy.store import LegacyStore
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.statistics import Share, Statistical
from tests.cli.command import run
from tests.imports.conftest import legacy_file, plain_row
from tests.legacy.old_application import OldSessionManager


def rows(path: Path) -> Path:
    """Old rows: two of alice's, one of them expired, one of nobody's on a desk, and one that nobody can read."""
    token, _, _, created, *rest = plain_row("session-3", user=None)
    unreadable = plain_row("session-4")
    return legacy_file(
        path,
        [
            plain_row("session-1"),
            plain_row("session-2", hours=-1),
            (token, None, '{"device": 5}', created, *rest),
            (*unreadable[:4], "never", *unreadable[5:]),
        ],
    )


async def test_rows_and_traces_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live ones, ended ones by whoever ended them, by hour, user and device."""
    monkeypatch.setenv("HOLDFAST_LEGACY_TZ", "UTC")
    monkeypatch.setenv("TZ", "UTC")
    path = rows(tmp_path / "old.db")
    async with SessionManager(path, sweep_interval=None) as sessions:
        assert isinstance(sessions.store, LegacyStore)
        assert isinstance(sessions.store, Statistical)
        ended = await sessions.create_session("bob")
        await sessions.create_session("bob", {"device": "phone"})
        await sessions.delete_session(ended.token)
        OldSessionManager(path).delete_session("session-1")
        found = await sessions.store.statistics(24, 10)
        top = await sessions.store.statistics(24, 1)
        with pytest.raises(InvalidArgument, match="hours is a number"):
            await sessions.store.statistics(0, 1)
        assert (found.live, found.ended) == (await sessions.get_active_session_count(), 2)
    assert found.live == 2
    assert found.users == [
        Share(name="bob", live=1, kept=2, requests=0),
        Share(name="alice", live=0, kept=2, requests=7),
    ]
    assert top.users == found.users[:1]
    assert {share.name: (share.live, share.kept) for share in found.devices} == {"phone": (1, 2), "5": (1, 1)}
    assert found.durations is None
    assert (sum(hour.created for hour in found.hours), sum(hour.ended for hour in found.hours)) == (3, 2)
    assert abs(found.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_by_the_command(tmp_path: Path) -> None:
    """For people and for programs; no token is shown."""
    path = rows(tmp_path / "old.db")
    variables = {"HOLDFAST_SQLITE_PATH": str(path), "HOLDFAST_LEGACY_TZ": "UTC"}
    shown = run("sessions", "stats", folder=tmp_path, **variables)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("2 live, 0 ended and still kept, at ")
    found = run("sessions", "stats", "--json", folder=tmp_path, **variables)
    assert json.loads(found.stdout)["live"] == 2
    assert "session-" not in shown.stdout + shown.stderr + found.stdout
