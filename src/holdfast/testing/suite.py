# ruff: noqa: E402 - pytest has to hear of the modules before they are imported, or a failed assert says nothing
"""The behaviour of a store, as a class of tests. Whoever writes a store derives from it:

    class TestMyStore(StoreSuite):
        async def new_store(self):
            return MyStore(fresh_place())

        async def same_store(self):
            return MyStore(the_same_place())      # a second server; or leave it out

Every promise of `holdfast.sessions.store` is tried through the `SessionManager`, or on the store itself where
the manager would hide it. Time is moved, never waited for. The tests run under pytest-asyncio in either mode.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"holdfast.testing.suite_{noun}"
        for noun in ("base", "lifecycle", "time", "rotation", "metadata", "races", "counts")
    )
)

from holdfast.testing.suite_counts import CountSuite
from holdfast.testing.suite_lifecycle import LifecycleSuite
from holdfast.testing.suite_metadata import MetadataSuite
from holdfast.testing.suite_races import RaceSuite
from holdfast.testing.suite_rotation import RotationSuite
from holdfast.testing.suite_time import TimeSuite

__all__ = ["StoreSuite"]


class StoreSuite(LifecycleSuite, TimeSuite, RotationSuite, MetadataSuite, RaceSuite, CountSuite):
    """Everything a store has to do. See `SuiteBase` for what a subclass gives and may set."""
