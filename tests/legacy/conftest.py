"""What the tests of the legacy form share: the zone that the old application writes in."""

import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process, and what it starts, in a zone that is not UTC; its name."""
    zone = "Europe/Berlin"
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    yield zone
    monkeypatch.undo()
    time.tzset()
