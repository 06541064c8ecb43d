"""Promises under faults: what a test breaks, and what must be true while it is broken and after."""
