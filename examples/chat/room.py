"""The room of one server process: who is connected to it, and what was said last.

With several processes each has a room of its own. A real chat would keep messages in its database and tell the other
processes of new ones; what Holdfast does for it, sessions and sockets that end everywhere at once, stays the same.
"""

import asyncio
import json
import os
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

KEPT_MESSAGES: Final = 50


class Member:
    """One connection, and the frames that wait to be written to it. The guard cuts off a client that does not read."""

    def __init__(self, name: str) -> None:
        """Made by `Room.member`."""
        self.name = name
        self.frames: asyncio.Queue[str] = asyncio.Queue()

    def tell(self, frame: str) -> None:
        """Let a frame wait for the connection: nobody waits for a slow one here."""
        self.frames.put_nowait(frame)


class Room:
    """Members, and the last messages."""

    def __init__(self) -> None:
        """An empty one, with a name that says to a page that came back whether it is still the same."""
        self._name = secrets.token_hex(4)
        self._members: list[Member] = []
        self._messages: deque[dict[str, Any]] = deque(maxlen=KEPT_MESSAGES)
        self._number = 0

    @contextmanager
    def member(self, name: str) -> Iterator[Member]:
        """A connection of this person, until the end of the block. The others hear of both ends."""
        joined = Member(name)
        self._members.append(joined)
        joined.tell(
            _frame(
                "welcome", room=self._name, process=os.getpid(), messages=list(self._messages), people=self._people()
            )
        )
        self._tell_who_is_here(besides=joined)
        try:
            yield joined
        finally:
            self._members.remove(joined)
            self._tell_who_is_here()

    def say(self, name: str, text: str) -> None:
        """Keep a message, and tell everybody, the one who said it too."""
        self._number += 1
        message = {"number": self._number, "name": name, "text": text, "at": datetime.now(UTC).isoformat()}
        self._messages.append(message)
        frame = _frame("message", **message)
        for each in self._members:
            each.tell(frame)

    def _people(self) -> list[dict[str, Any]]:
        counted = Counter(each.name for each in self._members)
        return [{"name": name, "connections": counted[name]} for name in sorted(counted, key=str.casefold)]

    def _tell_who_is_here(self, besides: Member | None = None) -> None:
        frame = _frame("people", people=self._people())
        for each in self._members:
            if each is not besides:
                each.tell(frame)


def _frame(kind: str, **content: object) -> str:
    return json.dumps({"kind": kind, **content})
