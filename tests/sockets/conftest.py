"""The stores that servers of these tests share."""

from tests.concurrency.conftest import place_named, process_place

__all__ = ["place_named", "process_place"]
