"""The connection beneath an ASGI call, for the one thing that ASGI has no message for: dropping it.

A server keeps what it could not send yet. When the client does not read, closing waits behind that for ever: the
close frame, the buffer and the connection stay. Only the transport can be told to let go.
"""

from collections.abc import Callable
from typing import Final

from starlette.types import Scope, Send

_KEY: Final = "holdfast.abort"

Abort = Callable[[], None]


def remember_connection(scope: Scope, send: Send) -> None:
    """Note how the connection of this scope is dropped, before `send` is hidden. Safe to repeat.

    uvicorn hands over a method of the object that holds the transport. A middleware that puts a function of its own
    around `send` hides that, so whoever stands outermost calls this first.
    """
    if scope.get(_KEY) is None:
        scope[_KEY] = abort_of(scope, send)


def abort_of(scope: Scope, send: Send) -> Abort | None:
    """Drops the connection at once, unsent data and all; harmless once it is gone. `None` on a server that hides it."""
    remembered: Abort | None = scope.get(_KEY)
    return remembered or getattr(getattr(getattr(send, "__self__", None), "transport", None), "abort", None)
