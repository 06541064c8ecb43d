"""The chat example over HTTP: who gets in, whose devices one sees and ends, and where it is served at all.

How it looks and feels in a browser is in tests/browser.
"""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from examples.chat.__main__ import serve as serve_chat
from examples.chat.app import create_chat
from examples.chat.devices import device_of
from examples.chat.room import KEPT_MESSAGES, Room
from holdfast import TwoStores
from holdfast.server.run import development_app, for_development
from holdfast.settings import Settings
from tests.cli.command import environment
from tests.concurrency.serving import serving

ROOT = Path(__file__).resolve().parents[2]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Mobile Safari/604.1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The development profile on a file of this test's own."""
    return for_development(Settings(sqlite_path=tmp_path / "sessions.db"))[0]


@pytest.fixture
async def chat(settings: Settings) -> AsyncIterator[FastAPI]:
    """The chat, running."""
    app = create_chat(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def browsing(app: FastAPI, name: str | None = None, agent: str = FIREFOX) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody's browser: it keeps cookies and says where its page is from; logged in if there is a name."""
    headers = {"User-Agent": agent, "Origin": "http://127.0.0.1:8000"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers) as client:
        if name is not None:
            assert (await client.post("/chat/log-in", json={"name": name})).status_code == 204
        yield client


async def devices(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """The list that this browser's page shows."""
    answer = await client.get("/chat/devices")
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()["devices"]
    return listed


async def test_a_visitor_without_a_session_sees_the_way_in_and_no_more(chat: FastAPI) -> None:
    """The page and its files are for everybody; what is somebody's needs a session."""
    async with browsing(chat) as visitor:
        for path in ("/", "/chat/main.js", "/chat/chat.css", "/chat/icon.svg", "/holdfast/client.js"):
            assert (await visitor.get(path)).status_code == 200
        assert (await visitor.get("/chat/me")).json() is None
        assert (await visitor.get("/chat/devices")).status_code == 401
        assert (await visitor.delete("/chat/devices")).status_code == 401


@pytest.mark.parametrize(
    "path", ["/chat/app.py", "/chat/..%2fapp.py", "/chat/index", "/chat/.html", "/pages/index.html"]
)
async def test_only_the_files_of_the_page_are_served(chat: FastAPI, path: str) -> None:
    """A name that is not on the list is not looked for."""
    async with browsing(chat) as visitor:
        assert (await visitor.get(path)).status_code == 404


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "a\u202eb", "a\x00b", "\u200b", 7, None])
async def test_a_name_that_is_none_begins_nothing(chat: FastAPI, name: object) -> None:
    """Too short, too long, invisible or no text at all: refused, and no cookie is set."""
    async with browsing(chat) as visitor:
        answer = await visitor.post("/chat/log-in", json={"name": name})
        assert answer.status_code == 422
        assert "set-cookie" not in answer.headers


async def test_the_session_is_in_the_cookie_and_nowhere_else(chat: FastAPI) -> None:
    """Log-in answers without a body; what the page learns of its session holds no token and no id (promise 10)."""
    async with browsing(chat, "ada") as ada:
        me = await ada.get("/chat/me")
        assert me.json()["name"] == "ada"
        assert 86_390 < me.json()["seconds_left"] <= me.json()["lifetime"] == 86_400
        token = ada.cookies["session-insecure-dev"]
        for path in ("/chat/me", "/chat/devices", "/"):
            assert token not in (await ada.get(path)).text


async def test_a_page_of_another_site_does_nothing(chat: FastAPI) -> None:
    """With the visitor's cookie but another page's Origin nobody is logged in, out, or away (S-33)."""
    async with browsing(chat, "ada") as ada, browsing(chat, "ada") as second:
        elsewhere = {"Origin": "https://example.test"}
        for method, path in (("POST", "log-in"), ("POST", "log-out"), ("DELETE", "devices")):
            body = {"json": {"name": "eve"}} if path == "log-in" else {}
            answer = await ada.request(method, f"/chat/{path}", headers=elsewhere, **body)  # type: ignore[arg-type]  # one body or none
            assert answer.status_code == 403, path
        assert len(await devices(second)) == 2


async def test_one_s_own_devices_and_nobody_else_s(chat: FastAPI) -> None:
    """The list has each device's guess of a name, this one first; another user's is not in it and cannot be ended."""
    async with browsing(chat, "ada") as desk, browsing(chat, "ada", PHONE) as phone, browsing(chat, "eve") as eve:
        listed = await devices(phone)
        assert [(each["name"], each["kind"], each["this_one"]) for each in listed] == [
            ("Safari on iPhone", "phone", True),
            ("Firefox on Linux", "computer", False),
        ]
        (hers,) = await devices(eve)
        for id in (hers["id"], "019b0000-0000-7000-8000-000000000001", "not-an-id"):
            assert (await phone.delete(f"/chat/devices/{id}")).status_code == 404
        assert (await phone.delete("/chat/devices")).json() == {"ended": 1}
        assert (await desk.get("/chat/devices")).status_code == 401
        assert len(await devices(eve)) == 1
        (last,) = await devices(phone)
        assert (await phone.delete(f"/chat/devices/{last['id']}")).status_code == 204
        assert (await phone.get("/chat/me")).json() is None


async def test_logging_in_again_leaves_the_old_session(chat: FastAPI) -> None:
    """One browser has one session: the one before is ended, whoever's it was (S-13)."""
    async with browsing(chat, "ada") as browser, browsing(chat, "ada") as other:
        assert (await browser.post("/chat/log-in", json={"name": "grace"})).status_code == 204
        assert (await browser.get("/chat/me")).json()["name"] == "grace"
        assert len(await devices(other)) == 1


async def test_the_interface_stays_beside_it(chat: FastAPI) -> None:
    """The server's own routes and their documentation are there as without the chat, and do not describe it."""
    async with browsing(chat) as visitor:
        assert (await visitor.get("/docs")).status_code == 200
        assert (await visitor.get("/healthz")).status_code == 200
        assert (await visitor.get("/api/v1/sessions/current")).status_code == 401
        paths = (await visitor.get("/openapi.json")).json()["paths"]
        assert paths
        assert not any("chat" in path for path in paths)


async def test_the_server_never_has_it(settings: Settings) -> None:
    """`holdfast serve`, with `--dev` or without, mounts no chat and no page of it."""
    from holdfast.server.app import create_app

    for app in (create_app(settings), development_app(settings)):
        async with app.router.lifespan_context(app), browsing(app) as visitor:
            for path in ("/chat/me", "/chat/main.js", "/chat/chat.css"):
                assert (await visitor.get(path)).status_code == 404
            front = await visitor.get("/")
            assert "chat" not in front.text.lower()


def test_the_package_does_not_know_it() -> None:
    """Nothing that is installed imports an example."""
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) examples\b", path.read_text(), re.MULTILINE), path


async def test_a_room_keeps_the_last_messages() -> None:
    """Whoever comes late hears the last fifty, in order, each with its number; and everybody hears who is here."""
    room = Room()
    with room.member("ada") as ada:
        for number in range(KEPT_MESSAGES + 5):
            room.say("ada", f"message {number}")
        with room.member("Grace") as grace:
            welcome = json.loads(grace.frames.get_nowait())
        told = [json.loads(ada.frames.get_nowait()) for _ in range(ada.frames.qsize())]
    names = [["ada", "Grace"], ["ada"]]
    assert (welcome["kind"], [each["name"] for each in welcome["people"]]) == ("welcome", names[0])
    assert [(each["number"], each["text"]) for each in welcome["messages"]] == [
        (number + 1, f"message {number}") for number in range(5, KEPT_MESSAGES + 5)
    ]
    heard = [each["people"] for each in told if each["kind"] == "people"]
    assert [[person["name"] for person in people] for people in heard] == names
    assert [person["connections"] for person in heard[0]] == [1, 1]
    assert sum(each["kind"] == "message" for each in told) == KEPT_MESSAGES + 5


@pytest.mark.parametrize(
    ("agent", "device", "kind"),
    [
        (FIREFOX, "Firefox on Linux", "computer"),
        (PHONE, "Safari on iPhone", "phone"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/150.0 Safari/537.36 Edg/150.0", "Edge on Windows", "computer"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/150.0 Mobile Safari/537.36", "Chrome on Android", "phone"),
        ("curl/8.11.0", "curl", "computer"),
        ("", "A browser", "computer"),
        ("<script>", "A browser", "computer"),
    ],
)
def test_what_a_device_is_called(agent: str, device: str, kind: str) -> None:
    """Words from our own table, whatever the header says."""
    assert device_of(agent) == {"device": device, "kind": kind}


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example's command until it ends, which it does when it refuses to start."""
    return subprocess.run(
        [sys.executable, "-m", "examples.chat", *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_free_port_is_a_port_of_the_chat_s_own(tmp_path: Path) -> None:
    """With `--port 0` too, only the page's own address may open the socket, and a page can read why not (S-37)."""
    with serving(tmp_path, "chat", "examples.chat", settings={"PYTHONPATH": str(ROOT)}) as address:
        own = {"Origin": address}
        answer = httpx2.post(f"{address}/chat/log-in", json={"name": "ada"}, headers=own)
        cookie = answer.headers["set-cookie"].partition(";")[0]
        room = address.replace("http", "ws", 1) + "/chat/room"
        with connect(room, origin=Origin(address), additional_headers={"Cookie": cookie}) as socket:
            assert json.loads(socket.recv())["kind"] == "welcome"
        # Browser-friendly: accepted, and closed at once with a code that a page can read.
        for origin, code in ((Origin("http://127.0.0.1:1"), 3003), (None, 3003)):
            with connect(room, origin=origin, additional_headers={"Cookie": cookie}) as socket:
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == code


async def test_it_stays_on_this_machine(tmp_path: Path) -> None:
    """An address that others can reach is refused, and so is a port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusals = {
            ("--host", "0.0.0.0"): (4, "loopback only"),
            ("--port", str(taken.getsockname()[1])): (4, "cannot listen"),
        }
        for arguments, (code, sentence) in refusals.items():
            ran = await asyncio.to_thread(start, tmp_path, *arguments)
            assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
            assert sentence in ran.stderr


def test_with_both_options_it_follows_a_move(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file and PostgreSQL together are the two stores of a move, and the file serves until it has taken place."""
    served: list[Settings] = []
    monkeypatch.setattr("holdfast.server.run.serve", lambda settings, *_: served.append(settings))
    monkeypatch.setenv("SESSION_DB_TYPE", "postgresql")
    monkeypatch.chdir(tmp_path)
    serve_chat(port=0, sqlite=tmp_path / "a.db", postgres="postgresql://localhost/x")
    stores = served[0].stores()
    assert isinstance(stores, TwoStores)
    assert (Path(stores.sqlite), stores.preferred) == (tmp_path / "a.db", "sqlite")
