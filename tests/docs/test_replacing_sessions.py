"""The page about replacing Starlette's sessions runs, and says what the drop-in takes."""

import inspect
from pathlib import Path

import pytest

from holdfast.sessions import process as process_module
from holdfast.sessions.metadata import MAX_BYTES, MAX_KEYS
from holdfast.sessions.policy import DEFAULT_LIFETIME, DEFAULT_MAX_LIFETIME
from holdfast.web.session_dict import SessionDict
from holdfast.web.session_middleware import SessionMiddleware
from tests.docs.pages import page
from tests.docs.running import run_page

PAGE = "how-to/replace-starlettes-sessions.md"


async def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set in the environment, in the reader's folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "SESSION_DB_TYPE", "HOLDFAST_SQLITE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process_module, "_managers", {})
    await run_page(page(PAGE))
    assert (tmp_path / "data" / "sessions.db").exists()


def test_the_page_is_complete() -> None:
    """Our own arguments, what the dict has besides, and the numbers."""
    text = page(PAGE).read_text(encoding="utf-8")
    arguments = inspect.signature(SessionMiddleware).parameters.values()
    ours = [each.name for each in arguments if each.kind is each.KEYWORD_ONLY]
    assert [name for name in ours if f"`{name}" not in text] == []
    assert [
        name for name in ("accessed", "modified", "id") if f"`{name}`" not in text or not hasattr(SessionDict, name)
    ] == []
    assert f"{MAX_KEYS} keys, {MAX_BYTES // 1024} KiB" in text
    assert f"`max_lifetime` ({DEFAULT_MAX_LIFETIME.days} days)" in text
    assert f"lifetime ({DEFAULT_LIFETIME.days * 24} hours)" in text
