"""What the clients of a run hold: the sessions they believe to live, and the tokens that should open nothing."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from holdfast.sessions.tokens import digest_of_new
from tests.chaos.history import History, Token

Some = TypeVar("Some")

MOST_SPENT: Final = 300
"""How many dead tokens are kept to be tried again."""


@dataclass(slots=True)
class Held:
    """A session as its client knows it."""

    session: str
    user: str
    secret: str
    number: int
    """Of its present token."""


class Population:
    """Shared by all clients. Nothing here waits."""

    def __init__(self, history: History, users: int) -> None:
        """Begin with nobody."""
        self._history = history
        self.users = [f"user-{number}" for number in range(users)]
        self.held: dict[str, Held] = {}
        self.spent: deque[Held] = deque(maxlen=MOST_SPENT)
        self.said = 0
        """How many messages were sent over all sockets."""

    def issued(self, session: str, user: str, secret: str, at: float) -> Held:
        """A token was issued for a session, new or not. The one before it, if there was one, is spent."""
        number = len(self._history.tokens) + 1
        self._history.tokens.append(Token(number, session, digest_of_new(secret), at))
        self.lose(session)
        self.held[session] = held = Held(session, user, secret, number)
        return held

    def lose(self, session: str) -> None:
        """A session is over, or nobody has its token any more."""
        if (held := self.held.pop(session, None)) is not None:
            self.spent.append(held)

    def forget(self, held: Held) -> None:
        """Nobody asks for it any more."""
        if self.held.get(held.session) is held:
            del self.held[held.session]

    def new_ticket(self) -> int:
        """The number of the next ticket."""
        self._history.tickets += 1
        return self._history.tickets

    def pick(self, dice: float) -> Held | None:
        """One of the sessions held; `dice` is from 0 to 1. `None` when there is none."""
        return chosen(list(self.held.values()), dice)

    def pick_spent(self, dice: float) -> Held | None:
        """One of the tokens that should open nothing."""
        return chosen(list(self.spent), dice)


def chosen(among: Sequence[Some], dice: float) -> Some | None:
    """One of some things by a number from 0 to 1."""
    return among[min(len(among) - 1, int(dice * len(among)))] if among else None
