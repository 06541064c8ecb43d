"""What only the operator may do: see every session, end any of them, erase a user, clean up."""

from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, Security

from holdfast.api.answers import (
    ErasedAnswer,
    ErrorAnswer,
    PageAnswer,
    RemovedAnswer,
    SessionAnswer,
    StatsAnswer,
    session_body,
    statistics_body,
)
from holdfast.api.credentials import Gate, operator_scheme
from holdfast.api.options import RouterOptions
from holdfast.api.pages import read_page
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.manager import MAX_PAGE, SessionManager
from holdfast.sessions.statistics import MOST_HOURS, MOST_SHARES, Statistical
from holdfast.sessions.timestamps import timestamp
from holdfast.web.responses import NO_STORE, answer, not_found

_TAGS: Final = ["operator"]
_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    403: {"model": ErrorAnswer, "description": "The application's credential is not enough."},
    404: {"model": ErrorAnswer, "description": "No such live session."},
}
_FORBIDDEN: Final[dict[int | str, dict[str, Any]]] = {403: _MISSING[403]}


def add_operator_routes(router: APIRouter, manager: SessionManager, gate: Gate, options: RouterOptions) -> None:
    """Add them."""

    def operator_only(bearer: Annotated[str | None, Security(operator_scheme)]) -> None:
        gate.operator(bearer)

    operator = [Depends(operator_only)]

    @router.get("/sessions", response_model=PageAnswer, responses=_FORBIDDEN, dependencies=operator, tags=list(_TAGS))
    async def list_sessions(
        user_id: Annotated[str | None, Query(description="Only this user's.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        after: Annotated[UUID | None, Query(description="The `next` of the page before.")] = None,
    ) -> Response:
        """Live sessions, oldest first, in pages."""
        found, following = await read_page(manager, user_id, limit, after)
        return answer({"sessions": [session_body(each) for each in found], "next": following})

    @router.post(
        "/sessions/cleanup",
        response_model=RemovedAnswer,
        responses=_FORBIDDEN,
        dependencies=operator,
        tags=list(_TAGS),
    )
    async def clean_up() -> Response:
        """Remove every expired session now. The sweep does it gently by itself."""
        return answer({"removed": await manager.cleanup_expired_sessions()})

    @router.get(
        "/sessions/{id:uuid}",
        response_model=SessionAnswer,
        responses=_MISSING,
        dependencies=operator,
        tags=list(_TAGS),
    )
    async def show_session(id: UUID) -> Response:
        """A live session. Touches nothing."""
        session = await manager.get_by_id(str(id))
        if session is None:
            raise not_found()
        return answer(session_body(session))

    @router.delete("/sessions/{id:uuid}", status_code=204, responses=_MISSING, dependencies=operator, tags=list(_TAGS))
    async def end_session(id: UUID) -> Response:
        """End a session."""
        if not await manager.end_session(str(id)):
            raise not_found()
        return Response(status_code=204, headers=NO_STORE)

    @router.get("/stats", response_model=StatsAnswer, responses=_FORBIDDEN, dependencies=operator, tags=list(_TAGS))
    async def show_stats(
        hours: Annotated[
            int | None,
            Query(ge=1, le=MOST_HOURS, description="Also count what is kept, so many hours back: not cheap."),
        ] = None,
        top: Annotated[int, Query(ge=1, le=MOST_SHARES, description="How many users and devices then.")] = 10,
    ) -> Response:
        """How many sessions are live, the store's clock, the policy, and how a move stands; on request more."""
        policy = manager.policy
        said = {
            "active_sessions": await manager.get_active_session_count(),
            "store_time": timestamp(await manager.ping()),
            "lifetime_seconds": policy.lifetime.total_seconds(),
            "idle_timeout_seconds": _seconds(policy.idle_timeout),
            "max_lifetime_seconds": _seconds(policy.max_lifetime),
            "move": None if options.move is None else options.move(),
        }
        if hours is not None:
            store = manager.store
            if not isinstance(store, Statistical):
                raise InvalidArgument("this store keeps no statistics; leave `hours` out")
            said["statistics"] = statistics_body(await store.statistics(hours, top))
        return answer(said)

    @router.delete(
        "/users/{user_id:user}",
        response_model=ErasedAnswer,
        responses=_FORBIDDEN,
        dependencies=operator,
        tags=list(_TAGS),
    )
    async def erase_user(user_id: str) -> Response:
        """Delete everything held about a user. A slash in the id is sent as `%2F`."""
        return answer({"erased": await manager.erase_user(user_id)})


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
