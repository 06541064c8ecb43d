"""The pages about sockets: their programs run, and their tables hold what the code has."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast import SessionManager
from holdfast.sockets.guard import SocketGuard
from holdfast.sockets.guard_options import GuardOptions
from holdfast.web import closing
from holdfast.web.closing import Closing
from tests.docs.pages import ROOT, blocks, page
from tests.docs.test_web_kit import load
from tests.sockets.guard.site import ending, serving
from tests.support.polling import eventually
from tests.support.ports import LOOPBACK, free_port

GUARDING = "how-to/guard-a-websocket.md"
DRAINING = "how-to/drain.md"
REFERENCE = "reference/sockets.md"
ORIGIN = "https://app.example.com"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files of both pages."""
    monkeypatch.chdir(tmp_path)
    for name in (GUARDING, DRAINING):
        for block in blocks(page(name)):
            if block.file is not None:
                (tmp_path / block.file).write_text(block.text)
    return tmp_path


def presenting(token: str) -> dict[str, Any]:
    """The arguments of a page's socket."""
    return {"additional_headers": {"Cookie": f"__Host-session={token}", "Origin": ORIGIN}, "proxy": None}


async def test_the_guarded_endpoint_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FastAPI application of the page: it echoes, reads why it refuses, checks messages, and closes at the end."""
    module = load(folder / "chat.py", monkeypatch)
    (check,) = (block.text for block in blocks(page(GUARDING)) if "def may_post" in block.text)
    names = {"Session": module.Session, "SocketGuard": SocketGuard, "GuardOptions": GuardOptions, **vars(module)}
    exec(compile(check, GUARDING, "exec"), names)  # noqa: S102 - the page's own lines
    new: Any = None
    async with serving(module.app, lifespan="on") as port:
        sessions: SessionManager = module.sessions
        new = await sessions.create_session("u1")
        session = await sessions.get_by_id(new.id)
        assert names["may_post"](session, "short")
        assert not names["may_post"](session, "x" * 2000)
        async with connect(f"ws://{LOOPBACK}:{port}/chat", **presenting(new.token)) as client:
            await client.send("hello")
            assert await client.recv() == "u1: hello"
            await sessions.delete_session(new.token)
            assert await ending(client) == (4403, "revoked", [])
        async with connect(f"ws://{LOOPBACK}:{port}/chat", **presenting(new.token)) as client:
            assert await ending(client) == (3000, "unauthenticated", [])


async def test_the_mounted_application_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain ASGI application of the page."""
    module = load(folder / "live.py", monkeypatch)
    async with serving(module.app, lifespan="on") as port:
        new = await module.sessions.create_session("u1")
        headers = {"Authorization": f"Bearer {new.token}"}
        async with connect(f"ws://{LOOPBACK}:{port}/live", additional_headers=headers, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "u1: hello"
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{LOOPBACK}:{port}/live", proxy=None).__aenter__()


async def test_the_draining_server_drains(folder: Path) -> None:
    """F-27: the server of the page sends its sockets away with 1012, and ends."""
    port = free_port()
    (folder / "serve.py").write_text((folder / "serve.py").read_text().replace("port=8000", f"port={port}"))
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once, and is waited for without blocking
        [sys.executable, "serve.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with SessionManager("sqlite:///sessions.db", sweep_interval=None) as sessions:
            new = await sessions.create_session("u1")
            clients: list[Any] = []

            async def connected() -> bool:
                try:
                    clients.append(await connect(f"ws://{LOOPBACK}:{port}/chat", **presenting(new.token)).__aenter__())
                except OSError:
                    return False
                return len(clients) == 3

            await eventually(connected, what="three sockets are open")
            process.send_signal(signal.SIGTERM)
            assert [await ending(client) for client in clients] == [(1012, "restart", [])] * 3
            await eventually(lambda: process.poll() is not None, what="it has ended")
    finally:
        process.kill()
        process.wait()


def test_every_option_is_described() -> None:
    """The table has the options in their order, and no others."""
    section = page(REFERENCE).read_text().partition("`GuardOptions`\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert shown == [field.name for field in dataclasses.fields(GuardOptions)]


def test_every_code_is_described() -> None:
    """The table of close codes has each code with each of its reasons, and no others."""
    section = page(REFERENCE).read_text().partition("## Close codes\n")[2].partition("\n## ")[0]
    shown = {
        (int(code), reason)
        for code, reasons in re.findall(r"^\| (\d{4}) \|([^|]*)\|", section, re.MULTILINE)
        for reason in re.findall(r"`([^`]+)`", reasons) or [""]
    }
    known = {tuple(each) for each in vars(closing).values() if isinstance(each, Closing)} - {tuple(closing.ABNORMAL)}
    assert shown == known


def test_every_member_of_the_guard_is_described() -> None:
    """Each public name of `SocketGuard`, with its arguments."""
    section = page(REFERENCE).read_text().partition("`SocketGuard`\n")[2].partition("\n## ")[0]
    members: dict[str, Callable[..., Any]] = {
        name: member for name, member in vars(SocketGuard).items() if not name.startswith("_")
    }
    assert [name for name in [*members, "options"] if not re.search(rf"`{name}[`(]", section)] == []


def test_the_page_gives_uvicorn_options_that_it_has() -> None:
    """The command line of the page is one that uvicorn understands."""
    from uvicorn.main import main

    text = page(GUARDING).read_text()
    (command,) = re.findall(r"^\$ uvicorn chat:app (.+)$", text, re.MULTILINE)
    options = {option for parameter in main.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", command)) <= options
    main.make_context("uvicorn", ["chat:app", *command.split()])
