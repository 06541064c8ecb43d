"""Guarded sockets close when their session is over, with a code that says why, and deliver nothing after that."""

from tests.web.sockets.site import ending, site


async def test_a_socket_echoes_while_its_session_lives() -> None:
    """A guarded endpoint is an ordinary FastAPI endpoint; each message is one activity of the session."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(token=new.token) as client:
            for number in range(3):
                await client.send(f"hello {number}")
                assert await client.recv() == f"{new.id} hello {number}"
        session = await served.manager.get_by_id(new.id)
        assert session is not None
        # The handshake and three messages.
        assert session.request_count == 4


async def test_a_socket_closes_when_its_session_is_revoked() -> None:
    """S-44, promise 6: a session that is revoked takes its idle socket with it."""
    async with site() as served:
        new = await served.manager.create_session("u1")
        async with served.connect(cookie=new.token) as client:
            await served.manager.end_session(new.id)
            assert await ending(client) == (4403, "revoked", [])
        assert served.counts.closed == [4403]
