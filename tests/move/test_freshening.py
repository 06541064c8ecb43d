"""What is compared before writes have to wait, so that they wait for little."""

import asyncpg
import pytest

from holdfast.move.state import StoresDiffer
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from tests.move.bench import Place


async def test_what_was_written_since_the_comparison_is_compared_before_the_flip(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut-over: however much was written since all rows were compared, little of it is left while writes wait."""
    await place.fill(400)
    left: list[int] = []

    def reached(step: str) -> None:
        if step == "flip done":
            left.append(place.in_sqlite("SELECT count(*) FROM holdfast_move_log WHERE seq > ?", verified[0])[0][0])

    verified = [0]
    async with place.mover(reached=reached, rows=50) as mover:
        await mover.start()
        taking = mover._back_up

        async def writing(address: SqliteAddress | PostgresqlAddress) -> None:
            # Between the comparison of all rows and the flip.
            place.in_sqlite("UPDATE sessions SET request_count = request_count + 1")
            await taking(address)

        async def noting() -> bool:
            alike = await freshening()
            verified[0] = (await mover.look()).postgresql.verified or 0
            return alike

        freshening = mover._freshen
        monkeypatch.setattr(mover, "_back_up", writing)
        monkeypatch.setattr(mover, "_freshen", noting)
        await mover.cut_over()
        assert mover._steps.counted is False
    assert left == [0]
    ours, theirs = await place.both()
    assert ours == theirs


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM sessions WHERE id = (SELECT id FROM sessions LIMIT 1)",
        "INSERT INTO holdfast_imported SELECT '\\x01', NULL, NULL, 'a stranger', false, NULL",
    ],
)
async def test_a_row_too_few_or_too_many_stops_the_cut_over(
    place: Place, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Cut-over: a row that somebody takes from PostgreSQL, or adds to it, after the comparison is noticed."""
    await place.fill(10)
    async with place.mover() as mover:
        await mover.start()

        async def damaging(address: SqliteAddress | PostgresqlAddress) -> None:
            connection = await asyncpg.connect(place.address)
            await connection.execute(f"SET holdfast.mover = '{(await mover.look()).postgresql.move}'")
            await connection.execute(damage)
            await connection.close()

        monkeypatch.setattr(mover, "_back_up", damaging)
        with pytest.raises(StoresDiffer, match="SQLite serves on"):
            await mover.cut_over()
        assert (await mover.look()).sqlite.authority == "here"
        assert not (await mover.verify()).clean
