"""The socket guard, and the browser's half of it: sockets live as long as their session. It knows no database."""

from holdfast.sockets.client import client_route
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.guard_options import GuardOptions
from holdfast.sockets.guarded_socket import GuardedSocket, socket_session

__all__ = ["GuardOptions", "GuardedSocket", "SocketGuard", "client_route", "socket_session"]
