"""A pytest plugin: variables of a developer's own lead no test to another server, nor around ours, and Ctrl-C is heard.

Holdfast takes its settings from them, above all the address of a database. Clients of PostgreSQL take from `PG*` what
an address leaves open (`PGSSLMODE=require`, and no server of the tests is reached), and HTTP clients ask a company's
proxy for what listens on this machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import MutableMapping
from typing import Final

from tests.support.external import VARIABLE

_OURS: Final = ("DATABASE_URL", "SESSION_DB_TYPE", "HOLDFAST_")
_FOR_TESTS: Final = ("HOLDFAST_TEST_", "HOLDFAST_BENCH_", "HOLDFAST_TRACE")
_NEAR: Final = ("127.0.0.1", "localhost", "::1")


def pytest_configure() -> None:
    """Before anything is started, which inherits them."""
    tidy(os.environ)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what runs in its background; and a program that we start would not hear Ctrl-C either.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tidy(variables: MutableMapping[str, str]) -> None:
    """Take away what is not for the tests. A server that somebody else runs keeps the `PG*` that may belong to it."""
    strangers = _OURS if variables.get(VARIABLE) else (*_OURS, "PG")
    for name in [each for each in variables if each.startswith(strangers) and not each.startswith(_FOR_TESTS)]:
        del variables[name]
    # Most programs read one of the two, and not all of them the same.
    for name in ("no_proxy", "NO_PROXY"):
        variables[name] = ",".join(filter(None, (variables.get(name), *_NEAR)))
