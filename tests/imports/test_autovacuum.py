"""An import in place of a table that PostgreSQL is vacuuming at that very moment, as after the writes of a busy day."""

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holdfast.backups.archive import tell_nobody
from holdfast.imports.run import Wishes
from holdfast.imports.whole import in_place
from holdfast.sessions.store import StoreOptions
from tests.imports.legacy_table import ROWS, make_table, whose_table
from tests.support.admin import execute
from tests.support.polling import eventually
from tests.support.postgres import PostgresCluster

# A row has a page of its own, and each page costs the vacuum a pause of four tenths of a second.
SLOWLY = (
    "ALTER TABLE sessions SET (fillfactor = 10, autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, "
    "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
)
CHANGED = "UPDATE sessions SET metadata = json_build_object('said', repeat('x', 700))"
VACUUMED = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'sessions'::regclass"


@pytest.mark.timeout(120)
async def test_a_vacuum_of_the_table_makes_way(broken_postgres: Callable[..., PostgresCluster], tmp_path: Path) -> None:
    """One that would take minutes is not waited for until the import gives up."""
    server = broken_postgres(18, {"autovacuum_naptime": "1s"})
    address = make_table(server.create_database("imported"))
    execute(address, SLOWLY, CHANGED)

    def vacuumed() -> bool:
        return execute(address, VACUUMED) == [[1]]

    await eventually(vacuumed, what="the table is vacuumed")
    await in_place(address, StoreOptions(), tmp_path, Wishes(ZoneInfo("UTC")), tell_nobody, dry=False)
    assert whose_table(address, ROWS) == "Holdfast's"
