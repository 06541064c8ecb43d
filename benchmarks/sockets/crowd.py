"""The clients of the socket bars, all in one process: `python -m benchmarks.sockets.crowd`.

Several crowds may be open at once, each under a name. Times are taken here, in the process that sees both ends of
what is timed.
"""

import asyncio
import gc
import time
from collections.abc import Sequence
from typing import Any

import httpx2

from benchmarks.child import obey
from tests.support.light_socket import LightSocket

_AT_ONCE = 100
_PADDING = b" " + b"x" * 55
# The last answers of a slice may take so long; what is not there then is missing.
_LAST_SECONDS = 10.0


class Crowd:
    """Sockets of one server. It is their listener, and knows what it waits for."""

    def __init__(self) -> None:
        self.sockets: list[LightSocket] = []
        self.due: list[float] = []
        """When each message of the slice was to be sent, by its number."""
        self.latencies: list[float] = []
        self.closed_at: dict[int, float] = {}
        """When each socket was closed by its server, by its number."""
        self.codes: dict[int, int | None] = {}
        self.changed = asyncio.Event()

    def text(self, _: LightSocket, text: bytes) -> None:
        """An answer: note how long after its due time it came."""
        self.latencies.append(time.perf_counter() - self.due[int(text[: text.index(b" ")])])
        if len(self.latencies) == len(self.due):
            self.changed.set()

    def closed(self, socket: LightSocket) -> None:
        """The end of a socket."""
        self.closed_at[socket.number] = time.perf_counter()
        self.codes[socket.number] = socket.code
        self.changed.set()

    async def until(self, seconds: float) -> None:
        """Wait until something changed, at most so long."""
        self.changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            pass


class Crowds:
    """All crowds of this process, and what they can be told."""

    def __init__(self) -> None:
        self._crowds: dict[str, Crowd] = {}

    async def open(self, name: str, port: int, tokens: Sequence[str]) -> dict[str, float]:
        """Open a socket for each token; how many a second that were."""
        crowd = self._crowds[name] = Crowd()
        left = iter(enumerate(tokens))
        began = time.perf_counter()

        async def opener() -> None:
            for number, token in left:
                headers = [("Authorization", f"Bearer {token}")]
                crowd.sockets.append(await LightSocket.open(port, "/", headers, number, crowd))

        await asyncio.gather(*(opener() for _ in range(_AT_ONCE)))
        assert len(crowd.sockets) == len(tokens)
        # A socket and its handshake make a few hundred objects each, none of which is garbage.
        gc.freeze()
        return {"per_second": len(tokens) / (time.perf_counter() - began)}

    async def load(self, name: str, per_second: float, seconds: float) -> dict[str, Any]:
        """Send so many messages a second over all sockets in turn, whether they are answered or not.

        A latency counts from the moment the message was due: what this process sends late is in it, and is shown
        beside it as `late`.
        """
        crowd = self._crowds[name]
        assert not crowd.closed_at, "a socket was closed"
        crowd.latencies, number = [], int(per_second * seconds)
        late: list[float] = []
        began = time.perf_counter() + 0.05
        crowd.due = [began + each / per_second for each in range(number)]
        sent = 0
        while sent < number:
            now = time.perf_counter()
            while sent < number and crowd.due[sent] <= now:
                crowd.sockets[sent % len(crowd.sockets)].send(b"%d" % sent + _PADDING)
                late.append(now - crowd.due[sent])
                sent += 1
            if sent < number:
                await asyncio.sleep(max(0.0, crowd.due[sent] - time.perf_counter()))
        give_up_at = time.perf_counter() + _LAST_SECONDS
        while len(crowd.latencies) < number and time.perf_counter() < give_up_at:
            await crowd.until(give_up_at - time.perf_counter())
        assert not crowd.closed_at, f"sockets were closed: {crowd.codes}"
        return {"missing": number - len(crowd.latencies), "latencies": crowd.latencies, "late": late}

    async def revoke(self, name: str, url: str, credential: str, ids: Sequence[str], per_second: float) -> list[float]:
        """End each socket's session over HTTP, one after the other; seconds from the answer to the close frame.

        The next one is ended when its time has come, whether the socket of the one before is closed or not. Below
        zero when the socket was closed before the answer was here.
        """
        crowd = self._crowds[name]
        ended: list[float] = []
        async with httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {credential}"}) as client:
            began = time.perf_counter()
            for each, id in enumerate(ids):
                await asyncio.sleep(max(0.0, began + each / per_second - time.perf_counter()))
                answer = await client.delete(f"/api/v1/sessions/{id}")
                ended.append(time.perf_counter())
                assert answer.status_code == 204, answer.status_code
        give_up_at = time.perf_counter() + _LAST_SECONDS
        while len(crowd.closed_at) < len(ids) and time.perf_counter() < give_up_at:
            await crowd.until(give_up_at - time.perf_counter())
        assert len(crowd.closed_at) == len(ids), f"{len(ids) - len(crowd.closed_at)} sockets are still open"
        assert set(crowd.codes.values()) == {4403}, set(crowd.codes.values())
        return [crowd.closed_at[number] - at for number, at in enumerate(ended)]

    async def close(self, name: str) -> None:
        """Close a crowd, and wait until its server has answered."""
        crowd = self._crowds.pop(name)
        for socket in crowd.sockets:
            if socket.code is None:
                socket.close()
        while len(crowd.closed_at) < len(crowd.sockets):
            await crowd.until(_LAST_SECONDS)

    async def serve(self) -> None:
        """Do what is asked."""
        await obey({"open": self.open, "load": self.load, "revoke": self.revoke, "close": self.close})


if __name__ == "__main__":
    asyncio.run(Crowds().serve())
