"""The HTTP interface: routes, bodies and credentials, as a router for any application. It knows no database."""

from holdfast.api.credentials import Credentials
from holdfast.api.options import RouterOptions
from holdfast.api.router import session_router

__all__ = ["Credentials", "RouterOptions", "session_router"]
