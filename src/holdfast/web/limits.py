"""What one client may cost: bytes of a body, and anonymous sessions in a minute."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.web.responses import Refusal, error_answer

Network = IPv4Network | IPv6Network

_NOBODY: Final = "unknown"
# One subscriber usually has a whole /64, so addresses within it are one client.
_IPV6_CLIENT_BITS: Final = 64


class BodyLimit:
    """ASGI middleware: refuses a body larger than so many bytes, whatever its content type.

    A declared length is refused before a byte is read, an undeclared one as soon as too many have arrived.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Put it before an application."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0
        answered = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise _too_large()
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            _check_declared(scope, self._max_bytes)
            await self._app(scope, counted, noted)
        except Refusal as refusal:
            # A route answers it in its own way; this is for an application that lets it through.
            if answered:
                raise
            await error_answer(scope, refusal)(scope, receive, send)


def _too_large() -> Refusal:
    # Without the header a server would go on reading, and throwing away, as much as the client likes to send.
    return Refusal(413, "too_large", "the body is too large", {"Connection": "close"})


def _check_declared(scope: Scope, max_bytes: int) -> None:
    for text in Headers(scope=scope).getlist("content-length"):
        if not (text.isascii() and text.isdigit()):
            raise Refusal(400, "bad_request", "the content length is not a number")
        # The length of the text first: turning thousands of digits into a number is itself a cost.
        if len(text) > 18 or int(text) > max_bytes:
            raise _too_large()


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address to hold a request against; `unknown` for a peer without one, such as a local socket.

    That is the peer, unless it is a trusted proxy: then the last address in `X-Forwarded-For` that is none.
    What stands before that address was written by the client itself and has no effect.
    """
    peer = scope.get("client")
    address = _parsed(peer[0]) if peer else None
    if address is None:
        return _NOBODY
    forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    while forwarded and _is_in(address, trusted):
        before = _parsed(forwarded.pop().strip())
        if before is None:
            break
        address = before
    return _client_of(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _client_of(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_CLIENT_BITS), strict=False))
    return str(address)


class AnonymousLimit:
    """How many anonymous sessions may begin: per client, and in all. Held in this process."""

    def __init__(self, per_minute: int, total_per_minute: int) -> None:
        """Needs the package `limits`, which comes with the server extra."""
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_client = RateLimitItemPerMinute(per_minute)
        self._total = RateLimitItemPerMinute(total_per_minute)

    def take(self, client: str) -> None:
        """Count one session of a client. Raises `Refusal` (429) when it, or everybody together, had enough.

        The client is asked first and counted last, so that one that is refused neither uses up what others
        may have nor takes memory: what is kept is bounded by the total.
        """
        allowed = self._limiter.test(self._per_client, "client", client)
        if not (allowed and self._limiter.hit(self._total, "total")):
            raise Refusal(429, "too_many_requests", "too many anonymous sessions", {"Retry-After": "60"})
        self._limiter.hit(self._per_client, "client", client)
