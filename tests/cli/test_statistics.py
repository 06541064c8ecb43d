"""`holdfast sessions stats`, for people and for programs."""

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from holdfast import SessionManager
from holdfast.cli.statistics import register


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, list[str]]:
    """A file with three sessions, one of them ended, and their tokens."""

    async def fill() -> list[str]:
        async with SessionManager(tmp_path / "sessions.db") as manager:
            made = [
                await manager.create_session(user, {"device": device})
                for user, device in (("u1", "phone"), ("u1", "phone"), ("\u202eu2", "bad\x1b[2J\ndevice"))
            ]
            await manager.delete_session(made[0].token)
            return [each.token for each in made]

    return tmp_path / "sessions.db", asyncio.run(fill())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """The command in a group of its own."""
    for name in ("DATABASE_URL", "SESSION_DB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    group = typer.Typer(rich_markup_mode=None)
    register(group)
    group.callback()(lambda: None)
    return CliRunner().invoke(group, ["stats", *arguments])


def test_programs_get_json(store: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in one object, times in UTC, and no token."""
    path, tokens = store
    result = run(monkeypatch, "--sqlite", str(path), "--json", "--hours", "2", "--top", "1")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["live"], found["ended"]) == (2, 1)
    assert found["at"].endswith("Z")
    assert sum(hour["created"] for hour in found["hours"]) == 3
    assert found["durations"]["sessions"] == 1
    assert found["devices"] == [{"name": "phone", "live": 1, "kept": 2, "requests": 0}]
    assert len(found["users"]) == 1
    assert not [token for token in tokens if token in result.output]


def test_people_get_tables(store: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligned columns; what a user put into an id moves no cursor."""
    path, tokens = store
    result = run(monkeypatch, "--sqlite", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 live, 1 ended and still kept, at ")
    assert "\x1b" not in result.stdout
    assert "bad\\u001b[2J\\u000adevice" in result.stdout
    assert "\\u202eu2" in result.stdout
    assert not [token for token in tokens if token in result.output]


def test_numbers_out_of_range_are_usage(store: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, before the store is asked."""
    path, _ = store
    for arguments in (("--hours", "0"), ("--top", "0"), ("--top", "many")):
        assert run(monkeypatch, "--sqlite", str(path), *arguments).exit_code == 2
