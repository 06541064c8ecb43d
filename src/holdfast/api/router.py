"""The routes of the HTTP interface, for mounting into an application under any prefix.

    app.include_router(session_router(manager, Credentials(application=[…], operator=[…])))

Who may use a route is a dependency of that route. The application opens and closes the manager.
"""

from typing import Any, Final

from fastapi import APIRouter

from holdfast.api.answers import ErrorAnswer
from holdfast.api.application_routes import add_application_routes
from holdfast.api.credentials import Credentials, Gate
from holdfast.api.operator_routes import add_operator_routes
from holdfast.api.options import RouterOptions
from holdfast.api.own_routes import own_router
from holdfast.api.strict_json import StrictRoute
from holdfast.sessions.manager import SessionManager

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ErrorAnswer, "description": "The body cannot be read."},
    401: {"model": ErrorAnswer, "description": "No valid credential; one body, whatever the reason."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
    422: {"model": ErrorAnswer, "description": "A value breaks a stated limit, or is not known here."},
    500: {"model": ErrorAnswer, "description": "A fault of the server."},
    503: {"model": ErrorAnswer, "description": "The store did not do it, or may have (`outcome_unknown`)."},
}


def session_router(
    manager: SessionManager, credentials: Credentials, options: RouterOptions | None = None
) -> APIRouter:
    """The routes over one manager. Without credentials only a session's own routes open to anyone."""
    chosen = options or RouterOptions()
    gate = Gate(credentials, lambda: chosen.observe("refused"))
    router = APIRouter(prefix="/api/v1", route_class=StrictRoute, redirect_slashes=False, responses=_ERRORS)
    # Fixed paths stand before those with an id in them; ids match only as UUIDs besides.
    router.include_router(own_router(manager, gate, chosen))
    add_application_routes(router, manager, gate, chosen)
    add_operator_routes(router, manager, gate, chosen)
    return router
