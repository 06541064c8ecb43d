"""A PostgreSQL that somebody else runs, for the suites that need no faults."""

from __future__ import annotations

import os

from tests.support.admin import Databases

#: Holds the address of a login that may create databases and roles.  The suites create and drop
#: databases of their own there and leave all others alone.
VARIABLE = "HOLDFAST_TEST_DATABASE_URL"


class ExternalPostgres(Databases):
    """The server named by `HOLDFAST_TEST_DATABASE_URL`; it can be used, not broken."""

    @classmethod
    def from_environment(cls) -> ExternalPostgres | None:
        """That server, or `None` when the variable is not set."""
        address = os.environ.get(VARIABLE)
        return cls(address) if address else None
