"""Fixtures of the chaos run: a PostgreSQL of its own, with Holdfast's tables."""

from collections.abc import Callable

import pytest

from tests.support.admin import Databases
from tests.support.postgres import PostgresCluster

Stage = tuple[PostgresCluster, str]


@pytest.fixture
def stage(broken_postgres: Callable[..., PostgresCluster], template_of: Callable[[Databases], str]) -> Stage:
    """A server to break, and the address of a migrated database on it."""
    # Connections that a silent line kept waiting all arrive at once when it speaks again.
    server = broken_postgres(18, {"max_connections": "300"})
    return server, server.create_database("holdfast_chaos", template_of(server))
