"""Blocking the event loop for real, as a careless application does."""

import time


def block(seconds: float) -> None:
    """Hold the thread, and with it the loop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
