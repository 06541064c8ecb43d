"""A running application, and log lines as they would be written."""

import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from holdfast.server.logging import configure
from tests.api.api import Api, running


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The application as the server runs it."""
    async with running(allow_extend=True, allow_metadata=True) as started:
        yield started


@pytest.fixture
def written() -> Iterator[Callable[[bool], io.StringIO]]:
    """`written(json_lines)` configures the log at debug level and gives what is written; undone afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def begin(json_lines: bool) -> io.StringIO:
        stream = io.StringIO()
        configure("debug", json_lines, stream)
        return stream

    yield begin
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
