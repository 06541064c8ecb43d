"""The how-to page about the client: its program and its page, run as they stand."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page, expect

from holdfast.sockets.client import client_source
from tests.browser.conftest import Visit
from tests.browser.rules import MEANINGS
from tests.cli.command import environment
from tests.docs.pages import blocks, page
from tests.support.polling import until
from tests.support.ports import LOOPBACK, free_port

PAGE = page("how-to/reconnect-in-the-browser.md")


@pytest.fixture
def port(tmp_path: Path) -> int:
    """Where the page's program will listen; its files are in this test's own folder."""
    number = free_port()
    for block in blocks(PAGE):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text.replace(":8000", f":{number}"))
    return number


@contextmanager
def running(folder: Path, port: int) -> Iterator[None]:
    """The page's program, until the end of the block, which is an orderly stop."""
    log = folder / "live.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "live:app", "--port", str(port), "--ws", "websockets-sansio"],
            cwd=folder,
            env=environment(PYTHONPATH=os.pathsep.join([str(folder), *filter(None, sys.path)])),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:

        def answers() -> bool:
            try:
                return httpx2.get(f"http://{LOOPBACK}:{port}/page").status_code == 200
            except httpx2.TransportError:
                return False

        until(lambda: process.poll() is not None or answers(), what="the program answers")
        assert process.poll() is None, log.read_text()
        yield
        process.terminate()
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def post(page: Page, path: str) -> None:
    """Let the page ask, as its own script would."""
    assert await page.evaluate("async (path) => (await fetch(path, { method: 'POST' })).status", path) == 204


async def test_its_program_and_its_page(port: int, tmp_path: Path, visit: Visit) -> None:
    """Log-in needed, open, extended, restarted and revoked, as the table says."""
    with running(tmp_path, port):
        page = await visit(f"http://{LOOPBACK}:{port}/page")
        state, said, until_when = (page.locator(each) for each in ("#state", "#said", "#until"))
        await expect(state).to_have_text("login-needed: unauthenticated")
        await post(page, "/log-in/ada")
        await page.evaluate("connection.restart()")
        await expect(state).to_have_text("open")
        assert await page.evaluate("connection.send('hello')") is True
        await expect(said).to_have_text("ada said hello")
        await expect(until_when).to_contain_text("until 2")
        extended = await page.evaluate("connection.extend().then((date) => date - Date.now())")
        assert 23 * 3_600_000 < extended < 25 * 3_600_000
        await expect(said).to_have_text("ada said hello")
    await expect(state).to_contain_text("reconnecting")
    with running(tmp_path, port):
        await page.evaluate("connection.retry()")
        await expect(state).to_have_text("open")
        await post(page, "/log-out-everywhere")
        await expect(state).to_have_text("revoked")


def test_its_table_has_every_state_and_every_reason() -> None:
    """What the client can tell and what the page explains are the same words."""
    rows = [line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    shown = {(state.strip(" `"), word.strip(" `")) for state, reasons in rows for word in reasons.split(",")}
    told = {(each["state"], each["reason"]) for each in MEANINGS.values() if each["state"] != "closed"}
    assert told <= shown
    assert {state for state, _ in shown} == {"connecting", "open", "closed", *(state for state, _ in told)}
    for state in {state for state, _ in shown}:
        assert f'"{state}"' in client_source().decode()
