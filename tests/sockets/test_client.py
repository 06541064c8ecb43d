"""The JavaScript client: how it is served, that the wheel has it, and its rules where Node.js is at hand.

How it behaves in a browser is in tests/browser.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from holdfast.sockets.client import CLIENT_PATH, client_route, client_source
from tests.browser.rules import BACKOFFS, MEANINGS, TELLS_BACKOFFS, TELLS_MEANINGS

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")


def asking(app: FastAPI | Starlette) -> httpx2.AsyncClient:
    """A client of an application."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://example.test")


async def test_it_is_served_as_a_script_that_no_cache_keeps_unasked() -> None:
    """The registered media type, no sniffing, and a tag that a browser asks with before each use."""
    app = FastAPI()
    app.router.routes.append(client_route())
    async with asking(app) as client:
        answer = await client.get(CLIENT_PATH)
        head = await client.head(CLIENT_PATH)
    assert answer.status_code == head.status_code == 200
    assert answer.content == client_source()
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["ETag"])
    assert head.headers == answer.headers


@pytest.mark.parametrize("named", ["{tag}", "W/{tag}", '"another", {tag}', "*"])
async def test_a_browser_that_has_it_is_told_so(named: str) -> None:
    """304 without a body, with the headers that a cache renews."""
    async with asking(Starlette(routes=[client_route()])) as client:
        first = await client.get(CLIENT_PATH)
        tag = first.headers["ETag"]
        again = await client.get(CLIENT_PATH, headers={"If-None-Match": named.format(tag=tag)})
    assert (again.status_code, again.content) == (304, b"")
    assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, "public, no-cache")


@pytest.mark.parametrize("named", ['"another"', '""', "", "{tag}x"])
async def test_a_browser_with_another_one_gets_it(named: str) -> None:
    """A tag that is not this file's changes nothing."""
    async with asking(Starlette(routes=[client_route()])) as client:
        tag = (await client.get(CLIENT_PATH)).headers["ETag"]
        answer = await client.get(CLIENT_PATH, headers={"If-None-Match": named.format(tag=tag.strip('"'))})
    assert (answer.status_code, answer.content) == (200, client_source())


async def test_it_works_under_a_prefix_and_another_name() -> None:
    """The route is an ordinary one: mounted, or with a path of one's own."""
    inner = Starlette(routes=[client_route(), client_route("/socket.js")])
    async with asking(Starlette(routes=[Mount("/prefix", inner)])) as client:
        for path in (CLIENT_PATH, "/socket.js"):
            assert (await client.get("/prefix" + path)).content == client_source()
        assert (await client.post("/prefix" + CLIENT_PATH)).status_code == 405


def test_it_needs_nothing_else() -> None:
    """One module: no import, no address, nothing kept in the page, no text run as code."""
    text = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", client_source().decode(), flags=re.DOTALL)
    forbidden = r"\bimport\b|\beval\b|\bFunction\(|https?://|wss?://|localStorage|sessionStorage|document\b|cookie"
    assert re.findall(forbidden, text) == []


def test_the_wheel_has_it(tmp_path: Path) -> None:
    """What is installed is the file in the source tree, byte for byte."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("holdfast/sockets/client.js") == client_source()


@pytest.mark.skipif(NODE is None, reason="Node.js is not here; tests/browser holds the same rules in a browser")
@pytest.mark.parametrize(
    ("tells", "cases"), [(TELLS_BACKOFFS, BACKOFFS), (TELLS_MEANINGS, MEANINGS)], ids=["pauses", "codes"]
)
def test_its_rules_outside_a_browser(tells: str, cases: dict[str, object]) -> None:
    """The pauses and what each close code means are plain functions, which need no browser."""
    address = json.dumps(Path(str(files("holdfast.sockets"))).joinpath("client.js").as_uri())
    # As text: this file ends in .js and has no package beside it that says what kind of script it is.
    program = f"""
        import {{ readFileSync }} from "node:fs";
        const text = readFileSync(new URL({address}));
        const client = await import("data:text/javascript;base64," + text.toString("base64"));
        console.log(JSON.stringify(({tells})(client, {json.dumps(list(cases))})));
    """
    assert NODE is not None
    ran = subprocess.run(
        [NODE, "--input-type=module", "--eval", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == list(cases.values())
