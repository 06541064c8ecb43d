"""The web kit: what an ASGI application puts between its users and a `SessionManager`. It knows no database.

FastAPI's dependencies are in `holdfast.web.dependencies`, so that nothing else needs FastAPI.
"""

from holdfast.web.cookies import CookieOptions
from holdfast.web.lifespan import session_lifespan
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.origins import Origins
from holdfast.web.session_middleware import SessionMiddleware
from holdfast.web.visitor import Visitor

__all__ = ["CookieOptions", "HoldfastMiddleware", "Origins", "SessionMiddleware", "Visitor", "session_lifespan"]
