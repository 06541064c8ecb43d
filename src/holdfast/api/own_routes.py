"""What a session's own token may do: look at itself, end, rotate, and see to its user's other devices."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, Security

from holdfast.api.answers import (
    DevicesAnswer,
    ErrorAnswer,
    ExpiryAnswer,
    RotatedAnswer,
    SessionAnswer,
    TicketAnswer,
    rotated_body,
    session_body,
)
from holdfast.api.bodies import ExtendBody, MetadataBody, TicketBody
from holdfast.api.credentials import Gate, session_scheme
from holdfast.api.options import RouterOptions
from holdfast.api.pages import read_page
from holdfast.api.strict_json import Handler, StrictRoute
from holdfast.sessions.manager import MAX_PAGE, SessionManager
from holdfast.sessions.session import Session
from holdfast.sessions.timestamps import timestamp
from holdfast.web.dependencies import cookie_scheme
from holdfast.web.errors import CrossSite
from holdfast.web.responses import NO_STORE, answer, not_found
from holdfast.web.visitor import SCOPE_KEY, Visitor
from holdfast.web.visitor_options import VisitorOptions

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": ErrorAnswer, "description": "Another site's page may have sent this with the visitor's cookie."}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": ErrorAnswer, "description": "No such live session of this user."}
}


def own_router(manager: SessionManager, gate: Gate, options: RouterOptions) -> APIRouter:
    """The routes. A token that opens nothing gets the constant 401 from each.

    The token is a bearer or, if the options name one, a cookie; with a cookie, what changes anything must come from
    a page that may act.
    """
    router = APIRouter(
        route_class=_visited(manager, VisitorOptions(cookie=options.cookie, origins=options.origins)),
        redirect_slashes=False,
        responses=_ERRORS,
    )

    def presented(request: Request) -> Visitor:
        visitor = Visitor.of(request)
        try:
            visitor.check_request()
        except CrossSite:
            gate.refused()
            raise
        return visitor

    # Nothing that they read is used; they are how the documentation knows.
    router.dependencies.append(Security(session_scheme))
    if options.cookie is not None:
        router.dependencies.append(Security(cookie_scheme(options.cookie.name)))

    def own_token(visitor: Annotated[Visitor, Depends(presented)]) -> str:
        if visitor.token is None:
            raise gate.refuse()
        return visitor.token

    async def opened(visitor: Annotated[Visitor, Depends(presented)]) -> Session:
        session = await visitor.peek()
        if session is None:
            raise gate.refuse()
        return session

    @router.get("/sessions/current", response_model=SessionAnswer, tags=["own session"])
    async def show_current_session(current: Annotated[Session, Depends(opened)]) -> Response:
        """The session this token opens. Touches nothing."""
        return answer(session_body(current))

    @router.delete("/sessions/current", status_code=204, tags=["own session"])
    async def end_current_session(visitor: Annotated[Visitor, Depends(presented)]) -> Response:
        """End this session: log out. The cookie goes, if there is one."""
        if not await visitor.log_out():
            raise gate.refuse()
        return Response(status_code=204, headers=NO_STORE)

    @router.post("/sessions/current/rotate", response_model=RotatedAnswer, tags=["own session"])
    async def rotate_current_session(visitor: Annotated[Visitor, Depends(presented)]) -> Response:
        """Replace the token. Id, expiry and open sockets stay; the old token is dead.

        A token that came in a cookie has its successor set as the cookie and not shown: no script shall see it.
        """
        new = await visitor.rotate()
        if new is None:
            raise gate.refuse()
        return answer(rotated_body(new, show_token=visitor.way == "bearer"))

    @router.post("/sessions/current/ticket", response_model=TicketAnswer, tags=["own session"])
    async def create_ticket(token: Annotated[str, Depends(own_token)], body: TicketBody | None = None) -> Response:
        """A one-time ticket for a WebSocket handshake, good for 30 seconds."""
        made = await manager.create_ticket(token, None if body is None else body.origin)
        if made is None:
            raise gate.refuse()
        ticket, expires_at = made
        return answer({"ticket": ticket, "expires_at": timestamp(expires_at)})

    @router.get("/sessions/current/devices", response_model=DevicesAnswer, tags=["own session"])
    async def list_devices(
        current: Annotated[Session, Depends(opened)],
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        after: Annotated[UUID | None, Query()] = None,
    ) -> Response:
        """The live sessions of this session's user. An anonymous session sees itself only."""
        found, following = [current], None
        if current.user_id is not None:
            found, following = await read_page(manager, current.user_id, limit, after)
        devices = [{**session_body(each), "current": each.id == current.id} for each in found]
        return answer({"sessions": devices, "next": following})

    @router.delete("/sessions/current/devices/{id:uuid}", status_code=204, responses=_MISSING, tags=["own session"])
    async def end_device(current: Annotated[Session, Depends(opened)], id: UUID) -> Response:
        """End another session of the same user. Anyone else's is a 404, and stays as it is."""
        target = current if str(id) == current.id else await manager.get_by_id(str(id))
        # A session never changes its user, so nothing can come between this check and the end.
        own = target is not None and (
            target.id == current.id or (target.user_id is not None and target.user_id == current.user_id)
        )
        if not own or not await manager.end_session(str(id)):
            raise not_found()
        return Response(status_code=204, headers=NO_STORE)

    if options.allow_extend:

        @router.post("/sessions/current/extend", response_model=ExpiryAnswer, tags=["own session"])
        async def extend_current_session(
            token: Annotated[str, Depends(own_token)], body: ExtendBody | None = None
        ) -> Response:
            """Move the expiry to the later of today's and now plus some hours, never past the cap."""
            expires_at = await manager.extend_session(token, (body or ExtendBody()).hours)
            if expires_at is None:
                raise gate.refuse()
            return answer({"expires_at": timestamp(expires_at)})

    if options.allow_metadata:

        @router.patch("/sessions/current/metadata", response_model=SessionAnswer, tags=["own session"])
        async def change_current_metadata(token: Annotated[str, Depends(own_token)], body: MetadataBody) -> Response:
            """Merge changes into the metadata."""
            session = await manager.update_metadata(token, body.changes)
            if session is None:
                raise gate.refuse()
            return answer(session_body(session))

    return router


def _visited(manager: SessionManager, options: VisitorOptions) -> type[StrictRoute]:
    """Routes whose request has a visitor, and whose answer says what became of its cookie; refusals included."""

    class OwnRoute(StrictRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def visited(request: Request) -> Response:
                visitor = request.scope[SCOPE_KEY] = Visitor(request.scope, manager, options)
                response = await handle(request)
                visitor.finish(response.raw_headers)
                return response

            return visited

    return OwnRoute
