"""What the application may do with its credential: begin sessions, check tokens, look after them by id."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, Security

from holdfast.api.answers import (
    CreatedAnswer,
    ErrorAnswer,
    ExpiryAnswer,
    RevokedAnswer,
    SessionAnswer,
    ValidateAnswer,
    created_body,
    session_body,
)
from holdfast.api.bodies import CreateBody, ExtendBody, MetadataBody, ValidateBody
from holdfast.api.credentials import Gate, application_scheme, operator_scheme
from holdfast.api.options import RouterOptions
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.timestamps import timestamp
from holdfast.web.limits import AnonymousLimit, client_address
from holdfast.web.responses import Refusal, answer, not_found

_TAGS: Final = ["application"]
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"model": ErrorAnswer, "description": "No such live session."}}
_LIMITED: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": ErrorAnswer, "description": "The user has as many sessions as the cap allows."},
    429: {"model": ErrorAnswer, "description": "Too many anonymous sessions."},
}


def add_application_routes(router: APIRouter, manager: SessionManager, gate: Gate, options: RouterOptions) -> None:
    """Add them. The operator may use each of them too."""
    anonymous = (
        AnonymousLimit(options.anonymous_per_minute, options.anonymous_total_per_minute)
        if options.allow_anonymous
        else None
    )

    def application_only(
        bearer: Annotated[str | None, Security(application_scheme)],
        _: Annotated[str | None, Security(operator_scheme)],
    ) -> None:
        gate.application(bearer)

    def application_or_anonymous(
        request: Request,
        bearer: Annotated[str | None, Security(application_scheme)],
        _: Annotated[str | None, Security(operator_scheme)],
    ) -> bool:
        """Whether nobody is known to ask. A credential that is there must be good: no falling back."""
        if anonymous is None or "authorization" in request.headers:
            gate.application(bearer)
            return False
        return True

    application = [Depends(application_only)]

    @router.post(
        "/sessions",
        status_code=201,
        response_model=CreatedAnswer,
        responses=_LIMITED,
        tags=list(_TAGS),
        openapi_extra={"security": [{}]} if anonymous is not None else None,
    )
    async def create_session(
        request: Request,
        body: CreateBody,
        nobody: Annotated[bool, Depends(application_or_anonymous)],
    ) -> Response:
        """Begin a session. Its token is shown this once."""
        if nobody and anonymous is not None:
            if body.user_id is not None:
                raise gate.refuse()
            try:
                anonymous.take(client_address(request.scope, options.trusted_proxies))
            except Refusal:
                options.observe("refused")
                raise
        new = await manager.create_session(body.user_id, body.metadata)
        options.observe("created")
        return answer(created_body(new), 201)

    @router.post("/sessions/validate", response_model=ValidateAnswer, dependencies=application, tags=list(_TAGS))
    async def validate_session(body: ValidateBody) -> Response:
        """Check a token and record the activity. Unknown, expired and revoked look the same."""
        session = await manager.validate_session(body.token)
        if session is None:
            options.observe("refused")
            return answer({"active": False, "session": None})
        options.observe("validated")
        return answer({"active": True, "session": session_body(session)})

    @router.patch(
        "/sessions/{id:uuid}/metadata",
        response_model=SessionAnswer,
        responses=_MISSING,
        dependencies=application,
        tags=list(_TAGS),
    )
    async def change_metadata(id: UUID, body: MetadataBody) -> Response:
        """Merge changes into a session's metadata."""
        session = await manager.update_metadata_by_id(str(id), body.changes)
        if session is None:
            raise not_found()
        return answer(session_body(session))

    @router.post(
        "/sessions/{id:uuid}/extend",
        response_model=ExpiryAnswer,
        responses=_MISSING,
        dependencies=application,
        tags=list(_TAGS),
    )
    async def extend_session(id: UUID, body: ExtendBody | None = None) -> Response:
        """Move a session's expiry to the later of today's and now plus some hours, never past the cap."""
        expires_at = await manager.extend_by_id(str(id), (body or ExtendBody()).hours)
        if expires_at is None:
            raise not_found()
        return answer({"expires_at": timestamp(expires_at)})

    @router.delete(
        "/users/{user_id:user}/sessions",
        response_model=RevokedAnswer,
        dependencies=application,
        tags=list(_TAGS),
    )
    async def revoke_user_sessions(
        user_id: str, keep: Annotated[UUID | None, Query(description="The id of one that stays.")] = None
    ) -> Response:
        """End all sessions of a user, or all but one."""
        revoked = await manager.revoke_user_sessions(user_id, None if keep is None else str(keep))
        return answer({"revoked": revoked})
