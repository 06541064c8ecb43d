"""FastAPI's dependencies: in WebSocket routes, in the description, and with an application's own answers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from starlette.responses import RedirectResponse, Response
from starlette.testclient import TestClient

from holdfast import Session, SessionManager
from holdfast.memory import MemoryStore
from holdfast.web.cookies import DEFAULT_NAME
from holdfast.web.dependencies import current_session, optional_session
from holdfast.web.errors import NoSession
from holdfast.web.lifespan import session_lifespan
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.origins import Origins
from tests.web.site import BASE, LINK, OWN_PAGE, fastapi_site, running


async def test_the_description_shows_both_ways() -> None:
    """/docs offers the cookie and the bearer for a route with a session, and neither for one without."""
    async with running(fastapi_site) as site:
        described = (await site.browser.get("/openapi.json")).json()
        assert (await site.browser.get("/docs")).status_code == 200
    cookie, bearer = (described["components"]["securitySchemes"][name] for name in ("SessionCookie", "SessionToken"))
    assert (cookie["type"], cookie["in"], cookie["name"]) == ("apiKey", "cookie", "__Host-session")
    assert (bearer["type"], bearer["scheme"]) == ("http", "bearer")
    for path in ("/me", "/maybe", "/log-out"):
        assert described["paths"][path]["get"]["security"] == [{"SessionCookie": []}, {"SessionToken": []}]
        # Neither is a parameter: the interface takes them one way only.
        assert not [each for each in described["paths"][path]["get"].get("parameters", []) if each["in"] == "cookie"]
    assert "security" not in described["paths"]["/plain"]["get"]


async def test_a_whole_router_can_need_a_session() -> None:
    """As a dependency of a router it guards each route, and the session is validated once for a request."""

    def build(manager: SessionManager, **options: Any) -> FastAPI:
        app = fastapi_site(manager, **options)
        inside = APIRouter(prefix="/inside", dependencies=[Depends(current_session)])

        @inside.get("/{page}")
        async def show(page: str, session: Annotated[Session, Depends(current_session)]) -> dict[str, Any]:
            return {"page": page, "count": session.request_count}

        app.include_router(inside)
        return app

    async with running(build) as site:
        assert (await site.browser.get("/inside/a")).status_code == 401
        await site.log_in()
        assert [(await site.browser.get(f"/inside/{page}")).json() for page in "ab"] == [
            {"page": "a", "count": 1},
            {"page": "b", "count": 2},
        ]


async def test_an_application_answers_in_its_own_way() -> None:
    """A handler for `NoSession` sends visitors to the log-in page; the dead cookie goes even so."""

    def build(manager: SessionManager, **options: Any) -> FastAPI:
        app = fastapi_site(manager, **options)

        @app.exception_handler(NoSession)
        async def to_log_in(request: Request, _: NoSession) -> Response:
            return RedirectResponse(request.url_for("plain"), 303)

        return app

    async with running(build) as site:
        await site.log_in()
        site.clock.advance(25 * 3600)
        answer = await site.browser.get("/me", headers=LINK)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/plain")
        assert site.token is None


def test_a_websocket_route_knows_its_session() -> None:
    """S-37: the same dependencies in a WebSocket route, with the cookie only from a page on the list."""
    manager = SessionManager(MemoryStore())
    app = FastAPI(lifespan=session_lifespan(manager))
    app.add_middleware(HoldfastMiddleware, manager=manager, origins=Origins([BASE]))

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, session: Annotated[Session | None, Depends(optional_session)]) -> None:
        await websocket.accept()
        await websocket.send_text("nobody" if session is None else str(session.user_id))
        await websocket.close()

    with TestClient(app, base_url=BASE, headers=OWN_PAGE) as client:
        assert client.portal is not None
        token = client.portal.call(manager.create_session, "u1").token
        for headers, expected in (
            ({"Cookie": f"{DEFAULT_NAME}={token}", "Origin": BASE}, "u1"),
            ({"Cookie": f"{DEFAULT_NAME}={token}", "Origin": "https://evil.test"}, "nobody"),
            ({"Cookie": f"{DEFAULT_NAME}={token}"}, "nobody"),
            ({"Authorization": f"Bearer {token}"}, "u1"),
            ({}, "nobody"),
        ):
            with client.websocket_connect("/ws", headers=headers) as connection:
                assert connection.receive_text() == expected
