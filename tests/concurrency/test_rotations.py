"""Parallel rotations of one session (S-14)."""

import asyncio

from tests.concurrency.place import Place

PARALLEL = 50
ROUNDS = 20


async def test_parallel_rotations_have_one_successor(place: Place) -> None:
    """Of fifty rotations of one token on two servers one succeeds; its token alone opens the one session."""
    async with place.servers() as servers:
        here, there = servers
        for _ in range(ROUNDS):
            new = await here.create_session(user_id="u1")
            answers = await asyncio.gather(
                *(servers[number % 2].rotate_session(new.token) for number in range(PARALLEL))
            )
            successors = [answer for answer in answers if answer is not None]
            assert len(successors) == 1
            assert (successors[0].id, successors[0].expires_at) == (new.id, new.expires_at)
            for server in servers:
                assert await server.validate_session(new.token) is None
                assert await server.rotate_session(new.token) is None
                opened = await server.get_session(successors[0].token)
                assert opened is not None
                assert opened.id == new.id
                assert [session.id for session in await server.list_sessions("u1")] == [new.id]
            assert await there.why_ended(new.token) == "replaced"
            assert await there.delete_session(successors[0].token) is True
    assert place.lost_locks() == []


async def test_a_chain_of_rotations_never_forks(place: Place) -> None:
    """Clients that rotate whatever token they know: each token gets one successor, the last one opens the session."""
    async with place.servers() as servers:
        new = await servers[0].create_session()
        successor_of: dict[str, str] = {}
        tokens = [new.token]

        async def client(number: int) -> None:
            for _ in range(20):
                # For the store in memory, which would otherwise answer one client after the other.
                await asyncio.sleep(0)
                known = tokens[-1]
                successor = await servers[number % 2].rotate_session(known)
                if successor is not None:
                    assert known not in successor_of
                    successor_of[known] = successor.token
                    tokens.append(successor.token)

        await asyncio.gather(*(client(number) for number in range(10)))
        assert len(set(tokens)) == len(successor_of) + 1
        for token in tokens[:-1]:
            assert await servers[0].get_session(token) is None
        last = await servers[1].validate_session(tokens[-1])
        assert last is not None
        assert (last.id, last.request_count) == (new.id, 1)
