"""One HTTP request to the server of the demonstration, on a connection of its own."""

import asyncio
import json
import re
from typing import Any, Final, NamedTuple

LOOPBACK: Final = "127.0.0.1"
TIMEOUT_SECONDS: Final = 20.0
"""Far beyond the server's own deadline: an answer that takes longer is none."""
_LENGTH: Final = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: dict[str, Any]


async def ask(port: int, method: str, path: str, bearer: str | None = None, body: object = None) -> Answer:
    """Ask, and read the whole answer. Raises `OSError` (`TimeoutError` among them) when there is none."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}:{port}", "Connection: close"]
    lines += [f"Content-Length: {len(content)}", "Content-Type: application/json"]
    if bearer is not None:
        lines.append(f"Authorization: Bearer {bearer}")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + content)
            head, blank, rest = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    if not blank or len(rest) < _length(head):
        raise ConnectionError("the connection ended without a whole answer")
    return Answer(int(head.split(None, 2)[1]), json.loads(rest) if rest.strip() else {})


def _length(head: bytes) -> int:
    """How many bytes the body has."""
    found = _LENGTH.search(head)
    return 0 if found is None else int(found[1])
