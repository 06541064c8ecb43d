# ruff: noqa: E402 - pytest has to hear of the modules before they are imported, or a failed assert says nothing
"""The behaviour of a store, as a class of tests. Whoever writes a store derives from it:

    class TestMyStore(StoreSuite):
        async def new_store(self):
            return MyStore(fresh_place())

        async def same_store(self):
            return MyStore(the_same_place())      # a second server; or leave it out

Every promise of `holdfast.sessions.store` is tried through the `SessionManager`, or on the store where the
manager would hide it. Time is moved, never waited for. The tests run under pytest-asyncio in either mode.
"""

import pytest

PARTS = ["base", "lifecycle", "time", "rotation", "metadata", "users"]
PARTS += ["tickets", "ends", "sweep", "races", "counts", "caps"]
pytest.register_assert_rewrite(*(f"holdfast.testing.suite_{part}" for part in PARTS))

from holdfast.testing.suite_caps import CapsSuite
from holdfast.testing.suite_counts import CountSuite
from holdfast.testing.suite_ends import EndsSuite
from holdfast.testing.suite_lifecycle import LifecycleSuite
from holdfast.testing.suite_metadata import MetadataSuite
from holdfast.testing.suite_races import RaceSuite
from holdfast.testing.suite_rotation import RotationSuite
from holdfast.testing.suite_sweep import SweepSuite
from holdfast.testing.suite_tickets import TicketSuite
from holdfast.testing.suite_time import TimeSuite
from holdfast.testing.suite_users import UsersSuite

__all__ = ["StoreSuite"]


class StoreSuite(
    LifecycleSuite,
    TimeSuite,
    RotationSuite,
    MetadataSuite,
    UsersSuite,
    TicketSuite,
    EndsSuite,
    SweepSuite,
    RaceSuite,
    CountSuite,
    CapsSuite,
):
    """Everything a store has to do. See `SuiteBase` for what a subclass gives and may set."""
