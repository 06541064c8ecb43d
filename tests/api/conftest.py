"""The application that most tests of the interface ask."""

from collections.abc import AsyncIterator

import pytest

from tests.api.api import Api, running


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The application with the two optional routes on."""
    async with running(allow_extend=True, allow_metadata=True) as started:
        yield started
