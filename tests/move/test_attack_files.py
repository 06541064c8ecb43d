"""The file as others see it while it is moved: who owns what a mover puts beside it."""

import os

import pytest

from tests.move.bench import Place

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts in another one's place")
async def test_a_mover_of_roots_leaves_the_file_to_its_owner(place: Place) -> None:
    """Whatever is made beside the file by root is the owner's of the file: the application has to open it."""
    folder = place.path.parent
    os.chown(place.path, NOBODY, NOBODY)
    async with place.mover() as mover:
        await mover.start()
        found = {each.name: each.stat().st_uid for each in folder.glob("sessions.db*")}
    assert "sessions.db-lock" in found
    assert set(found.values()) == {NOBODY}
