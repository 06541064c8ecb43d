"""The variables of whoever runs the tests change none of them."""

import os

from tests.support.external import VARIABLE
from tests.support.surroundings import tidy


def test_a_developers_own_database_and_proxy_are_left_out() -> None:
    """No setting and no `PG*` reaches anybody, and no proxy is asked for this machine, but for everything else."""
    variables = {"PGSSLMODE": "require", "PATH": "/bin", "https_proxy": "http://proxy:1", "no_proxy": "example.com"}
    variables |= {"DATABASE_URL": "postgresql://me@db/app", "HOLDFAST_PORT": "1", "SESSION_DB_TYPE": "sqlite"}
    tidy(variables)
    near = "127.0.0.1,localhost,::1"
    assert variables == {
        "PATH": "/bin",
        "https_proxy": "http://proxy:1",
        "no_proxy": f"example.com,{near}",
        "NO_PROXY": near,
    }


def test_a_server_of_somebody_else_keeps_its_variables() -> None:
    """Where the plain suites run on another server its password may be in one of them."""
    variables = {VARIABLE: "postgresql://me@db/postgres", "PGPASSWORD": "secret"}
    before = dict(variables)
    tidy(variables)
    assert variables.items() >= before.items()


def test_the_tests_run_in_such_surroundings() -> None:
    """The plugin is in use."""
    assert "127.0.0.1" in os.environ["NO_PROXY"]
