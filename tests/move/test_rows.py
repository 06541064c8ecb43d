"""A row in two forms: what is read back from PostgreSQL is what was written there."""

import json

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.legacy.metadata import read_metadata
from holdfast.move.rows import _canonical
from holdfast.sessions.metadata import canonical
from tests.conftest import MigratedDatabases

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
    max_leaves=6,
)


async def test_metadata_come_back_as_they_went(migrated_database: MigratedDatabases) -> None:
    """Move 30, 32: jsonb's text becomes the canonical text again, of large floats too."""
    examples: list[str] = []

    @settings(max_examples=60, database=None, deadline=None)
    @given(st.dictionaries(TEXT, VALUES, max_size=3))
    def collect(metadata: dict[str, object]) -> None:
        examples.append(canonical(permitted(metadata)))

    collect()
    examples += [canonical({"a": each}) for each in (1e16, -4.812071832874623e16, 1e23, 1.5e300, 5e-324, 0.1, -0.0)]
    connection = await asyncpg.connect(migrated_database(None))
    try:
        for row in await connection.fetch("SELECT t, t::jsonb::text AS read FROM unnest($1::text[]) t", examples):
            assert _canonical(row["read"]) == row["t"]
    finally:
        await connection.close()


def permitted(metadata: dict[str, object]) -> dict[str, object]:
    """Without what the rules for new metadata refuse, as an import leaves it."""
    cleaned: dict[str, object] = json.loads(read_metadata(json.dumps(metadata)).text)
    return cleaned
