"""What a session's own token may do: look at itself, end, rotate, and see to its user's other devices."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, Security

from holdfast.api.bodies import (
    CreatedAnswer,
    DevicesAnswer,
    ErrorAnswer,
    ExpiryAnswer,
    ExtendBody,
    MetadataBody,
    SessionAnswer,
    TicketAnswer,
    TicketBody,
    created_body,
    session_body,
)
from holdfast.api.credentials import Gate, session_scheme
from holdfast.api.options import RouterOptions
from holdfast.api.pages import read_page
from holdfast.sessions.manager import MAX_PAGE, SessionManager
from holdfast.sessions.session import Session
from holdfast.web.responses import NO_STORE, answer, not_found, timestamp

_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": ErrorAnswer, "description": "No such live session of this user."}
}


def add_own_routes(router: APIRouter, manager: SessionManager, gate: Gate, options: RouterOptions) -> None:
    """Add them. A token that opens nothing gets the constant 401 from each."""

    def own_token(bearer: Annotated[str | None, Security(session_scheme)]) -> str:
        if bearer is None:
            raise gate.refuse()
        return bearer

    async def opened(token: str) -> Session:
        session = await manager.get_session(token)
        if session is None:
            raise gate.refuse()
        return session

    @router.get("/sessions/current", response_model=SessionAnswer, tags=["own session"])
    async def show_current_session(token: Annotated[str, Depends(own_token)]) -> Response:
        """The session this token opens. Touches nothing."""
        return answer(session_body(await opened(token)))

    @router.delete("/sessions/current", status_code=204, tags=["own session"])
    async def end_current_session(token: Annotated[str, Depends(own_token)]) -> Response:
        """End this session: log out."""
        if not await manager.delete_session(token):
            raise gate.refuse()
        return Response(status_code=204, headers=NO_STORE)

    @router.post("/sessions/current/rotate", response_model=CreatedAnswer, tags=["own session"])
    async def rotate_current_session(token: Annotated[str, Depends(own_token)]) -> Response:
        """Replace the token. Id, expiry and open sockets stay; the old token is dead."""
        new = await manager.rotate_session(token)
        if new is None:
            raise gate.refuse()
        return answer(created_body(new))

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
        token: Annotated[str, Depends(own_token)],
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        after: Annotated[UUID | None, Query()] = None,
    ) -> Response:
        """The live sessions of this session's user. An anonymous session sees itself only."""
        current = await opened(token)
        found, following = [current], None
        if current.user_id is not None:
            found, following = await read_page(manager, current.user_id, limit, after)
        devices = [{**session_body(each), "current": each.id == current.id} for each in found]
        return answer({"sessions": devices, "next": following})

    @router.delete("/sessions/current/devices/{id:uuid}", status_code=204, responses=_MISSING, tags=["own session"])
    async def end_device(token: Annotated[str, Depends(own_token)], id: UUID) -> Response:
        """End another session of the same user. Anyone else's is a 404, and stays as it is."""
        current = await opened(token)
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
