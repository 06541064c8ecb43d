"""The pages about the web kit: their applications run, and so do their tests and transcripts."""

import dataclasses
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from holdfast.web import errors
from holdfast.web.cookies import CookieOptions
from holdfast.web.middleware import HoldfastMiddleware
from holdfast.web.visitor import Visitor
from tests.docs.console import Shell, development_server, run_file
from tests.docs.pages import blocks, page
from tests.docs.running import run_page

APPLICATIONS = "how-to/add-to-your-application.md"
COOKIES = "how-to/use-cookies.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the files of the page."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(page(APPLICATIONS)):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    return tmp_path


def load(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module in a file, known under its name until the test is over."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Litestar reads the annotations of a handler where its module is known.
    monkeypatch.setitem(sys.modules, file.stem, module)
    spec.loader.exec_module(module)
    return module


def test_the_test_of_the_page_passes(folder: Path) -> None:
    """The FastAPI application and its test, in a process of their own."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "-o", "pythonpath=."]
    assert "2 passed" in run_file(folder, *command, "test_app.py")


@pytest.mark.parametrize("name", ["starlette_app", "litestar_app"])
async def test_the_other_applications_run(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Log-in by cookie, the session, log-out, the one 401, and a 403 for another site's page."""
    module = load(folder / f"{name}.py", monkeypatch)
    own = {"Sec-Fetch-Site": "same-origin"}
    transport = httpx2.ASGITransport(module.app)
    async with (
        module.sessions,
        httpx2.AsyncClient(transport=transport, base_url="https://x.test", headers=own) as browser,
    ):
        unauthenticated = await browser.get("/me")
        assert (unauthenticated.status_code, unauthenticated.json()["error"]) == (401, "unauthenticated")
        assert (await browser.post("/log-in", json={"user": "ada"})).status_code == 204
        assert (await browser.get("/me")).text == "you are ada"
        refused = await browser.post("/log-out", headers={"Sec-Fetch-Site": "cross-site"})
        assert (refused.status_code, refused.json()["error"]) == (403, "cross_site")
        assert (await browser.post("/log-out")).status_code == 204
        assert (await browser.get("/me")).status_code == 401


async def test_the_application_mounted_into_the_servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own routes are there; a fault takes the log-in back; a refusal has the server's headers."""
    module = load(folder / "mounted_app.py", monkeypatch)

    async def fails(request: Request) -> None:
        await Visitor.of(request).log_in("ada")
        raise ZeroDivisionError

    module.shop.add_api_route("/fails", fails, methods=["POST"])
    transport = httpx2.ASGITransport(module.app, raise_app_exceptions=False)
    own = {"Sec-Fetch-Site": "same-origin"}
    async with (
        module.sessions,
        httpx2.AsyncClient(transport=transport, base_url="https://x.test", headers=own) as browser,
    ):
        assert (await browser.get("/healthz")).status_code == 200
        failed = await browser.post("/shop/fails")
        assert (failed.status_code, "set-cookie" in failed.headers) == (500, False)
        assert await module.sessions.list_sessions() == []
        assert (await browser.post("/shop/log-in/ada")).status_code == 204
        refused = await browser.post("/shop/log-in/ada", headers={"Sec-Fetch-Site": "cross-site"})
        assert (refused.status_code, refused.headers["X-Content-Type-Options"]) == (403, "nosniff")


async def test_the_examples_about_cookies() -> None:
    """What the page's options and lists answer."""
    await run_page(page(COOKIES))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the transcripts need curl")
def test_the_transcript_about_cookies(tmp_path: Path) -> None:
    """A cookie over plain HTTP, from nowhere and from the application's own page."""
    with development_server(tmp_path) as (base, credentials):
        shell = Shell(tmp_path, base, credentials)
        for block in blocks(page(COOKIES)):
            if block.language == "console" and "run" in block.words:
                shell.check(block.text)


def _arguments(function: Callable[..., Any]) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name not in ("self", "app")}


def test_the_reference_names_everything() -> None:
    """Each argument, each member of a visitor, each dependency, each error; and nothing that there is not."""
    text = page("reference/web.md").read_text(encoding="utf-8")
    sections = {part.partition("`")[2].partition("`")[0]: part for part in text.split("\n## ")[1:]}

    def rows(module: str) -> set[str]:
        return {name.partition("(")[0] for name in re.findall(r"^\| `([^`]+)` \|", sections[module], re.MULTILINE)}

    assert rows("holdfast.web.middleware") == _arguments(HoldfastMiddleware.__init__)
    public = {name for name in vars(Visitor) if not name.startswith("_")}
    assert rows("holdfast.web.visitor") == public - {"of", "finish", "take_back"}
    assert all(f"`{name}`" in sections["holdfast.web.dependencies"] for name in ("visitor", "socket_session"))
    found = {
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__
    }
    assert rows("holdfast.web.errors") == found
    (shown,) = re.findall(r"`CookieOptions\((name[^)]*)\)`", text)
    assert shown.split(", ") == [field.name for field in dataclasses.fields(CookieOptions)]
    options = page(COOKIES).read_text(encoding="utf-8")
    assert all(f"| `{field.name}` |" in options for field in dataclasses.fields(CookieOptions))
