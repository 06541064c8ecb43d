"""The chat as a process of its own, on a port that stays its own, and a visitor's page of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
from playwright.async_api import Locator, Page, expect

from tests.support.polling import until
from tests.support.ports import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parents[2]


class ChatServer:
    """`python -m examples.chat`: started, stopped in order, and started again at the same address."""

    def __init__(self, directory: Path, name: str, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
        """`arguments` name the database, `settings` are environment variables. Its log is `directory/name.log`."""
        self.port = free_port()
        self.address = f"http://{LOOPBACK}:{self.port}"
        self._name = name
        self._directory = directory
        self._log = directory / f"{name}.log"
        self._command = [sys.executable, "-m", "examples.chat", "--port", str(self.port), *arguments]
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HOLDFAST_", "DATABASE_", "SESSION_"))
        }
        # It starts where a `.env` of whoever runs the tests is not found.
        self._environment = {**kept, "PYTHONPATH": str(ROOT), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Everything it has printed, in all its lives."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as stream:
            process = self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        until(lambda: process.poll() is not None or self._is_ready(), what=f"{self._name} is ready")
        assert process.poll() is None, self.log

    def ask_to_stop(self) -> None:
        """Send SIGTERM, as whoever deploys a new version does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for its end, which must be an orderly one."""
        assert self._process is not None
        assert self._process.wait(timeout=30) == 0, self.log

    def kill(self) -> None:
        """End it however it is. Safe to repeat."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.address}/readyz").status_code == 200
        except httpx2.TransportError:
            return False


@contextmanager
def chatting(
    directory: Path, name: str, *arguments: str, settings: Mapping[str, str] | None = None
) -> Iterator[ChatServer]:
    """A running chat until the end of the block. Its log shows no fault and no token."""
    server = ChatServer(directory, name, *arguments, settings=settings)
    try:
        server.start()
        yield server
        server.ask_to_stop()
        server.wait()
    finally:
        server.kill()
    assert not re.search(r"hf[st]_[0-9A-Za-z]{8}|Traceback|\bERROR\b", server.log), server.log


class Visitor:
    """What somebody sees of the chat, and does there: by label and role, as a screen reader would find it."""

    def __init__(self, page: Page) -> None:
        """`page` shows the chat's address."""
        self.page = page
        self.name = page.get_by_label("Your name")
        self.text = page.get_by_role("textbox", name="Message")
        self.status = page.locator("#status")
        self.banner = page.locator("#banner")
        self.dialog = page.get_by_role("dialog")
        self.messages = page.get_by_role("log").locator(".text")
        self.devices = page.get_by_role("region", name="My devices").get_by_role("listitem")
        self.others = self.button("Log out the others")

    def button(self, name: str) -> Locator:
        """A button by its whole name."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def come_in(self, name: str) -> None:
        """Log in with a name, and wait for the room."""
        await self.name.fill(name)
        await self.button("Come in").click()
        await self.is_connected()

    async def is_connected(self) -> None:
        """Wait until the page says so: after a long absence of the server its own pause may be half a minute."""
        await expect(self.status).to_have_text("Connected", timeout=60_000)

    async def say(self, text: str) -> None:
        """Send a message, and see it come back."""
        await self.text.fill(text)
        await self.text.press("Enter")
        # Not by their number: the earlier messages of the room may be on their way yet.
        await expect(self.messages.last).to_have_text(text)

    async def is_told(self, title: str, code: str) -> None:
        """Wait for the dialog that says why it is over."""
        await expect(self.dialog).to_be_visible(timeout=30_000)
        await expect(self.dialog.get_by_role("heading")).to_have_text(title)
        await expect(self.dialog.locator("#over-code")).to_have_text(code)
