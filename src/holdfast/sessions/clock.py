"""Time, as far as this process has a say in it: not at all.

Whether a session is live is decided by the database's clock, in every statement. What remains here is how a
background part waits, and an offset that every statement adds to the database's clock so that tests can move
time without sleeping. In production the offset is zero for ever.
"""

import asyncio
from datetime import timedelta


class Clock:
    """The production clock: no offset, and waiting takes as long as it takes."""

    offset: timedelta = timedelta(0)
    """Added to the database's clock by every statement. Only `holdfast.testing` sets it."""

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock. Negative means not at all."""
        await asyncio.sleep(max(0.0, seconds))
