"""The number that says how late the event loop is."""

from holdfast.server.lag import LoopLag
from tests.sockets.guard.blocking import block
from tests.support.polling import eventually


async def test_a_blocked_loop_shows_in_its_lag() -> None:
    """F-31: what a careless call costs everybody is a number that an alarm can watch."""
    seen: list[float] = []
    lag = LoopLag(seen.append)
    lag.start()
    try:
        await eventually(lambda: len(seen) > 0, what="a look at an idle loop")
        # A busy machine may have let it look again meanwhile.
        before = len(seen)
        block(1.0)
        await eventually(lambda: len(seen) > before, what="a look at a blocked one")
    finally:
        await lag.stop()
        await lag.stop()
    assert seen[before] > 0.4
