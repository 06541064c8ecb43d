"""How a move stands is told at every phase of it, and of whichever store answers."""

import asyncpg
import pytest

from holdfast import StoreUnavailable
from holdfast.move.state import MoveRefused, PostgresqlState
from holdfast.move.status import MoveStatus, StatusReader
from tests.move.bench import Place

NOBODY = "postgresql://nobody@127.0.0.1:9/nothing"


async def test_phase_authority_rows_and_lag_are_told(place: Place) -> None:
    """Status: before a move, while it follows, after the switch and the way back, and at the end."""
    await place.fill(30)
    async with StatusReader(place.path, place.address) as reader, place.mover() as mover:
        before = await reader.read()
        assert (before.move, before.phase, before.authority, before.epoch) == (None, None, None, 0)
        await mover.start()
        following = await reader.read()
        assert (following.phase, following.authority, following.lag) == ("following", "sqlite", 0)
        assert following.rows == following.copied
        assert following.rows is not None
        assert following.rows > 30
        assert following.verified_at is None
        assert following.quarantined is not None
        assert following.quarantined > 0
        assert (await reader.read(count=False)).rows is None
        async with place.manager() as lite:
            new = await lite.create_session("u1")
        behind = await reader.read()
        assert behind.lag == 1
        assert behind.copied is not None
        assert behind.copied + 1 == behind.rows
        assert (await mover.verify()).clean
        verified = await reader.read()
        assert verified.lag == 0
        assert verified.verified_at is not None
        await mover.cut_over()
        switched = await reader.read()
        assert (switched.phase, switched.authority, switched.waiting) == ("switched", "postgresql", False)
        assert switched.epoch > following.epoch
        async with place.manager("postgresql") as post:
            await post.validate_session(new.token)
        assert (await reader.read()).lag == 1
        # Compared before the cut-over it was; and again, the other way.
        assert switched.verified_at is not None
        assert (await mover.verify()).clean
        again = await reader.read()
        assert again.verified_at is not None
        assert again.verified_at > switched.verified_at
        await mover.roll_back()
        back = await reader.read()
        assert (back.phase, back.authority, back.verified_at) == ("following", "sqlite", None)
        await mover.cut_over()
        await mover.complete()
        over = await reader.read()
        assert (over.move, over.phase, over.authority) == (None, None, "postgresql")


@pytest.mark.parametrize("switched", [False, True], ids=["before", "after"])
async def test_nothing_is_verified_once_a_difference_was_found(place: Place, switched: bool) -> None:
    """Status: what was compared before does not count once another finds a difference, until that is mended."""
    await place.fill(5)
    async with StatusReader(place.path, place.address) as reader, place.mover() as mover:
        await mover.start()
        assert (await mover.verify()).clean
        if switched:
            await mover.cut_over()
        if switched:
            place.in_sqlite("UPDATE holdfast_move SET applying = 1")
            place.in_sqlite("UPDATE sessions SET request_count = 77")
            place.in_sqlite("UPDATE holdfast_move SET applying = 0")
        else:
            connection = await asyncpg.connect(place.address)
            await connection.execute(f"SET holdfast.mover = '{(await mover.look()).postgresql.move}'")
            await connection.execute("UPDATE sessions SET request_count = 77")
            await connection.close()
        assert (await reader.read()).verified_at is not None
        comparison = await mover.verify()
        assert not comparison.clean
        assert (await reader.read()).verified_at is None
        assert (await mover.mend(comparison)).clean
        assert (await reader.read()).verified_at is not None


async def test_what_answers_is_told_while_the_other_is_away(place: Place) -> None:
    """Status: a decision under way is seen in the file although PostgreSQL is away; with neither there is no answer."""
    await place.fill(1)
    async with place.mover() as mover:
        await mover.start()
        where = await mover.look()
    place.in_sqlite("UPDATE holdfast_control SET authority = 'pending', epoch = epoch + 1")
    async with StatusReader(place.path, NOBODY) as reader:
        told: MoveStatus = await reader.read()
    assert (told.authority, told.waiting, told.away) == ("sqlite", True, ("postgresql",))
    assert (told.move, told.phase) == (where.sqlite.move, None)
    missing = place.path.with_name("missing.db")
    async with StatusReader(missing, place.address) as reader:
        told = await reader.read()
    assert (told.authority, told.phase, told.away) == ("sqlite", "following", ("sqlite",))
    async with StatusReader(missing, NOBODY) as reader:
        with pytest.raises(StoreUnavailable, match="neither"):
            await reader.read()
    with pytest.raises(MoveRefused, match="in this order"):
        StatusReader(place.address, str(place.path))


async def test_a_mover_that_loses_its_connection_as_it_looks_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows a move tries again then: it is no failure of the program."""

    async def lost() -> PostgresqlState:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async with place.mover() as mover:
        assert (await mover.where()).postgresql.phase is None
        monkeypatch.setattr(mover._postgresql, "look", lost)
        with pytest.raises(StoreUnavailable, match="PostgreSQL is not available"):
            await mover.where()
