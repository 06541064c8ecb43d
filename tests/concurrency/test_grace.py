"""A rotated token's direct predecessor validates within the grace, whoever else holds the row at that moment."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from holdfast.sql.postgresql import PostgresqlStore
from tests.concurrency.place import Place
from tests.support.polling import eventually

TOUCH = "UPDATE sessions SET request_count = request_count + 1 WHERE id = $1"
WAITING = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(params=["postgresql-16", "postgresql-18"])
def postgresql_place(request: pytest.FixtureRequest, place_named: Callable[[str], Place]) -> Place:
    """Both versions: only PostgreSQL has row locks."""
    return place_named(request.param)


async def validated_while_held(place: Place, *, old: bool, new: bool) -> list[int | None]:
    """The counts that tokens of one session are answered whose row another server is just touching."""
    async with place.servers(1, rotation_grace=30) as (sessions,):
        first = await sessions.create_session()
        second = await sessions.rotate_session(first.token)
        assert second is not None
        tokens = [first.token] * old + [second.token] * new
        connection = await asyncpg.connect(place.address)
        watching = await asyncpg.connect(place.address)
        store = sessions.store
        assert isinstance(store, PostgresqlStore)

        async def met() -> bool:
            # It waits for half a second, and passes over the row from then on: that may be over before it is seen.
            return store._skipping_until > 0 or bool(await watching.fetchval(WAITING))

        try:
            async with connection.transaction():
                await connection.execute(TOUCH, first.id)
                calls = [asyncio.create_task(sessions.validate_session(token)) for token in tokens]
                await eventually(met, what="the batch waits for the row")
            answers = await asyncio.gather(*calls)
        finally:
            await watching.close()
            await connection.close()
        return [None if answer is None else answer.request_count for answer in answers]


async def test_the_predecessor_waits_for_the_row(postgresql_place: Place) -> None:
    """The predecessor alone: its validate waits for the other server's touch, and counts after it."""
    assert await validated_while_held(postgresql_place, old=True, new=False) == [2]


async def test_the_present_token_waits_for_the_row(postgresql_place: Place) -> None:
    """The same with the present token."""
    assert await validated_while_held(postgresql_place, old=False, new=True) == [2]


async def test_both_tokens_in_one_batch_wait_for_the_row(postgresql_place: Place) -> None:
    """Predecessor and present token together: both are answered, and both count."""
    answers = await validated_while_held(postgresql_place, old=True, new=True)
    assert None not in answers
    assert max(answer or 0 for answer in answers) == 3
