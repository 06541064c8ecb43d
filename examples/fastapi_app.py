"""Log in, stay logged in, log out: a FastAPI application with Holdfast, to copy and go on from.

pip install '/path/to/the/clone[postgres,web]' 'uvicorn>=0.54'
DATABASE_URL=sqlite:///sessions.db uvicorn --app-dir examples fastapi_app:app

curl -X POST localhost:8000/login -H 'Content-Type: application/json' -d '{"user": "ada", "password": "lovelace"}'
curl localhost:8000/me -H 'Authorization: Bearer hfs_…'
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from holdfast import Session, SessionManager, StoreUnavailable, get_session_manager

PASSWORDS = {"ada": "lovelace"}  # Yours: holdfast begins where the application knows who the user is.


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the process's session manager for as long as the application runs."""
    async with get_session_manager():
        yield


app = FastAPI(lifespan=lifespan)
Manager = Annotated[SessionManager, Depends(get_session_manager)]
# Without auto_error a missing credential and a wrong one look the same to the client.
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def current_session(sessions: Manager, bearer: Bearer) -> Session:
    """The caller's session; 401 without one. Every use counts as activity."""
    session = None if bearer is None else await sessions.validate_session(bearer.credentials)
    if session is None:
        raise HTTPException(401, "log in first", {"WWW-Authenticate": "Bearer"})
    return session


class Login(BaseModel):
    """What a user types in."""

    user: str
    password: str


@app.post("/login")
async def log_in(login: Login, sessions: Manager) -> dict[str, str]:
    """Begin a session. The token is shown this once: the client keeps it."""
    if PASSWORDS.get(login.user) != login.password:
        raise HTTPException(401, "wrong user or password")
    token, expires_at = await sessions.create_session(login.user, {"theme": "dark"})
    return {"token": token, "expires_at": expires_at.isoformat()}


@app.get("/me")
async def show_me(session: Annotated[Session, Depends(current_session)]) -> dict[str, Any]:
    """A protected route."""
    return {"user": session.user_id, "theme": session.metadata["theme"], "requests": session.request_count}


@app.post("/logout", status_code=204)
async def log_out(sessions: Manager, bearer: Bearer) -> Response:
    """End the session, everywhere and at once. Safe to repeat."""
    if bearer is not None:
        await sessions.delete_session(bearer.credentials)
    return Response(status_code=204)


@app.exception_handler(StoreUnavailable)
async def answer_unavailable(_: Request, __: Exception) -> JSONResponse:
    """The database cannot be reached: nobody is logged out by that, so it must not look like a 401."""
    return JSONResponse({"detail": "try again in a moment"}, 503, {"Retry-After": "1"})
