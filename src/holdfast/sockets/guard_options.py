"""What a socket guard may be told, as plain values."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.session import Session
from holdfast.web.cookies import CookieOptions
from holdfast.web.origins import Origins

Authorize = Callable[[Session, str | bytes], bool | Awaitable[bool]]
"""Whether a session may send this message: a function or a coroutine function.

`False` closes the socket with 1008 `refused`. When it raises, the socket closes with 1011; the message never passes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """Which credentials open a socket, and what one may cost. Checked when it is made (`InvalidArgument`)."""

    cookie: CookieOptions | None = field(default_factory=CookieOptions)
    """The session cookie; `None` when cookies open no sockets."""
    bearer: bool = True
    """Whether `Authorization: Bearer` is read. Where it is, it decides whenever the header is there."""
    origins: Origins = field(default_factory=Origins)
    """Whose pages may open sockets. Empty by default: then no browser can."""
    allow_token_in_url: bool = False
    """Whether the path parameter may be a token, as legacy clients send it. It ends up in the logs of every proxy."""
    id_parameter: str = "session_id"
    """The path parameter that must be the session's own id, on routes that have one of this name."""
    browser_codes: bool = False
    """Whether a refused handshake is accepted and closed at once, with a code that a browser's page can read.

    Otherwise it is refused with an HTTP status, which a page sees as code 1006, whatever the reason.
    """
    validate_every: float = 0.0
    """Seconds for which one validate of a socket's messages suffices, at most half the manager's idle timeout; 0
    validates every message.
    """
    authorize: Authorize | None = None
    """Asked about every message, after the session was found live."""
    max_message_bytes: int = 65_536
    """The largest message from a client, in bytes; a text counts as its UTF-8."""
    messages_per_second: float = 20.0
    """How many messages a socket may send, on average. One that sends more is read no faster than that."""
    message_burst: int = 100
    """How many it may send at once."""
    too_fast_after: float = 10.0
    """Seconds for which it may go on sending more than that, being slowed down, before it is closed."""
    max_per_session: int | None = 20
    """Sockets of one session in this process."""
    max_per_user: int | None = 100
    """Sockets of one user in this process."""
    max_per_address: int | None = None
    """Sockets of one client address in this process. Many people can share an address."""
    max_sockets: int = 20_000
    """Sockets of this process."""
    max_handshakes: int = 1_000
    """Handshakes of this process that may wait for the store at once."""
    max_unsent: int = 64
    """Messages of the application that may wait because the client does not read."""
    send_timeout: float = 10.0
    """Seconds that one message, or the application's own close, may wait for that."""
    warn_before: float | None = None
    """Seconds before the session runs out at which the client is told; `None` tells it nothing."""
    allow_extend: bool = False
    """Whether a client may extend its session over the socket."""
    extend_hours: float = 24.0
    """By how much: to the later of today's expiry and now plus so many hours."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose `X-Forwarded-For` is believed."""

    def __post_init__(self) -> None:
        """Refuse limits that nothing could keep."""
        for name in ("max_message_bytes", "message_burst", "max_sockets", "max_handshakes", "max_unsent"):
            _check(name, getattr(self, name), whole=True)
        for name in ("max_per_session", "max_per_user", "max_per_address"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), whole=True)
        for name in ("messages_per_second", "too_fast_after", "send_timeout", "extend_hours"):
            _check(name, getattr(self, name))
        if self.warn_before is not None:
            _check("warn_before", self.warn_before)
        if self.validate_every != 0:
            _check("validate_every", self.validate_every)


def _check(name: str, value: object, *, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    # Not a NaN either: no comparison with it is true.
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 1e9 or (whole and value < 1):
        raise InvalidArgument(f"{name} is a {'whole ' if whole else ''}number above 0")
