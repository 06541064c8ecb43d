"""Sessions in ASGI applications: routes, credentials and limits, on any store. It knows no database."""

from holdfast.web.credentials import Credentials
from holdfast.web.options import RouterOptions
from holdfast.web.router import session_router

__all__ = ["Credentials", "RouterOptions", "session_router"]
