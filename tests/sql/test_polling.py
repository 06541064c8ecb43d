"""How a process looks for ends that others have made in a SQLite file."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

import pytest

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sql import polling
from holdfast.sql.polling import poll

ID = UUID(int=1)


async def test_what_was_missed_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and where there are too many, all is hinted at; after an error the next look goes further back."""
    monkeypatch.setattr(polling, "_SECONDS", 0)
    monkeypatch.setattr(polling, "_LIMIT", 2)
    answers: list[list[UUID] | StoreUnavailable] = [[], StoreUnavailable("away"), [ID], [ID, UUID(int=2)]]
    windows: list[timedelta] = []
    hints: list[Collection[UUID] | None] = []
    done = asyncio.Event()

    async def just_ended(window: timedelta, limit: int) -> Collection[UUID]:
        assert limit == 2
        if not answers:
            done.set()
            return []
        windows.append(window)
        answer = answers.pop(0)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    polling_ = asyncio.create_task(poll(hints.append, just_ended))
    await done.wait()
    polling_.cancel()
    assert hints[:4] == [None, [], [ID], None]
    assert windows[2] > windows[1] > windows[0]


async def test_after_a_long_silence_all_is_hinted_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended meanwhile may be deleted already."""
    monkeypatch.setattr(polling, "_SECONDS", 0)
    monkeypatch.setattr(polling, "_LONGEST_SILENCE_SECONDS", -1.0)
    hints: list[Collection[UUID] | None] = []
    heard = asyncio.Event()

    def hint(ids: Collection[UUID] | None) -> None:
        hints.append(ids)
        if len(hints) == 4:
            heard.set()

    async def just_ended(_window: timedelta, _limit: int) -> Collection[UUID]:
        return [ID]

    polling_ = asyncio.create_task(poll(hint, just_ended))
    await heard.wait()
    polling_.cancel()
    assert hints[:4] == [None, [ID], None, [ID]]
