"""The bearer credential of a request or a handshake."""

from typing import Final

from starlette.requests import HTTPConnection

_MAX_BEARER: Final = 4096


def bearer_of(connection: HTTPConnection) -> str | None:
    """The bearer credential of a request; `None` when there is none, a malformed one, or more than one."""
    headers = connection.headers.getlist("authorization")
    if len(headers) != 1 or len(headers[0]) > _MAX_BEARER:
        return None
    scheme, _, credential = headers[0].partition(" ")
    if scheme.lower() != "bearer" or not credential or not all("!" <= each <= "~" for each in credential):
        return None
    return credential
