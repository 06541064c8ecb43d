"""Every store is held to the one suite of `holdfast.testing.suite`."""
