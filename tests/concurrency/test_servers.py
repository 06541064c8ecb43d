"""What one server does, another one sees at once: nothing is kept in a process."""

import asyncio

from tests.concurrency.peer import peer
from tests.concurrency.place import Place


async def test_an_end_on_one_server_holds_on_the_other_at_once(process_place: Place) -> None:
    """Created here, validated in another process, revoked here: refused there from the next call on, every time."""
    async with process_place.servers(1) as (here,), peer(process_place) as there:
        for number in range(100):
            new = await here.create_session(user_id=f"u{number}", metadata={"number": number})
            session = await there.ask("validate_session", new.token)
            assert (session["id"], session["user_id"], session["request_count"]) == (new.id, f"u{number}", 1)
            assert session["metadata"] == {"number": number}
            assert await here.delete_session(new.token) is True
            assert await there.ask("validate_session", new.token) is None
            assert await there.ask("why_ended", new.token) == "revoked"
        assert await there.ask("get_active_session_count") == 0


async def test_every_change_on_one_server_shows_on_the_other(process_place: Place) -> None:
    """Rotation, metadata, extension and a revocation by user, each made in one process and seen in the other."""
    async with process_place.servers(1) as (here,), peer(process_place) as there:
        made = await there.ask("create_session", "u1", {"lang": "ko"})
        before = await here.validate_session(made["token"])
        assert before is not None

        successor = await here.rotate_session(made["token"])
        assert successor is not None
        assert await there.ask("validate_session", made["token"]) is None
        assert (await there.ask("validate_session", successor.token))["id"] == made["id"]

        await there.ask("update_metadata", successor.token, {"lang": None, "theme": "dark"})
        extended = await here.extend_session(successor.token, 48)
        after = await here.get_session(successor.token)
        assert after is not None
        assert after.metadata == {"theme": "dark"}
        assert after.expires_at == extended
        assert after.request_count == 2
        assert (await there.ask("get_session", successor.token))["expires_at"] == str(extended)

        assert await there.ask("revoke_user_sessions", "u1") == 1
        assert await here.validate_session(successor.token) is None


async def test_two_processes_divide_the_winners(process_place: Place) -> None:
    """Of one rotation and of one end tried in two processes at once, one succeeds."""
    async with process_place.servers(1) as (here,), peer(process_place) as one, peer(process_place) as other:
        for _ in range(100):
            new = await here.create_session()
            rotations = await asyncio.gather(*(each.ask("rotate_session", new.token) for each in (one, other)))
            winners = [answer for answer in rotations if answer is not None]
            assert len(winners) == 1
            ends = await asyncio.gather(*(each.ask("end_session", new.id) for each in (one, other)))
            assert sorted(ends) == [False, True]
            assert await here.validate_session(winners[0]["token"]) is None
    assert process_place.lost_locks() == []
