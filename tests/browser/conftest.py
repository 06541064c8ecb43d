"""A headless Chromium for the whole run, and a fresh profile in it for each visitor.

All of it lives in one event loop: what drives the browser belongs to the loop that started it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

# `make test` leaves these tests out, and its environment has no playwright. `make browser` has, and finds them.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

HERE = Path(__file__).parent
VARIABLE = "HOLDFAST_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Nothing leaves the machine, and nothing waits for what a container does not have.
SWITCHES = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Two servers of a test are two ports of one machine; nothing else is reached, and no name is looked up.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--font-render-hinting=none",
)
PATIENCE_MILLISECONDS = 30_000

#: `visit(address)` opens a page in a profile of its own: another device, as far as any server can tell.
Visit = Callable[..., Awaitable["Page"]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the browser, and runs in the one loop that the browser is in."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def chromium() -> str:
    """The program of the browser; without one the run ends, saying what to install."""
    named = os.environ.get(VARIABLE)
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing = f"{VARIABLE}={named} is no program" if named else f"none of {', '.join(NAMES)} is on the PATH"
        pytest.exit(
            f"the browser tests need Chromium, and {missing}: install it (on Debian: apt-get install chromium), "
            f"or set {VARIABLE} to the program",
            returncode=1,
        )
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium, without a profile that anybody else has used."""
    from playwright.async_api import async_playwright, expect

    program = chromium()
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    async with async_playwright() as playwright:
        # Its sandbox needs rights that a container's root does not have; it only ever sees pages of our own.
        launched = await playwright.chromium.launch(
            executable_path=program, headless=True, chromium_sandbox=False, args=SWITCHES
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Opens pages, each in a profile of its own. A script's uncaught error, on any of them, fails the test."""
    opened: list[BrowserContext] = []
    errors: list[str] = []

    async def open_page(address: str, **options: object) -> Page:
        context = await browser.new_context(**options)  # type: ignore[arg-type]  # a dozen options, one type each
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        opened.append(context)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = await context.new_page()
        await page.goto(address)
        return page

    yield open_page
    for context in opened:
        await context.close()
    assert errors == []
