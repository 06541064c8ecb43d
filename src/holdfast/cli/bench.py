"""`holdfast bench`."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import complain
from holdfast.cli.options import AsJson, Postgres, Sqlite, refuse_both
from holdfast.cli.output import print_facts, print_json


def bench(
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="About how long it may take.")] = 20,
    callers: Annotated[int, typer.Option(min=1, max=10_000, help="How many callers ask at once.")] = 100,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Measure how many sessions a second the database can serve.

    And say what that means for an application. It makes tables of its own, in a schema of the same database or in a
    folder beside the SQLite file, and removes them; no session is read or written. But it is real load, with durable
    writes: not beside a busy production. Exit code 4 when the database cannot be reached or gives no room for a schema.

    Example: holdfast bench --postgres postgresql://holdfast@db/app
    """
    from holdfast.bench.meaning import meaning
    from holdfast.bench.measuring import measure

    refuse_both(sqlite, postgres)
    settings = read_settings(sqlite, postgres)
    if not as_json:
        complain(f"measuring for about {seconds:g} s")
    figures = asyncio.run(measure(settings, seconds, callers))
    sentences = meaning(figures)
    if as_json:
        print_json({**asdict(figures), "meaning": sentences})
        return
    print_facts(
        {
            "database": figures.where,
            "validates a second": round(figures.validates_per_second),
            "creates a second": round(figures.creates_per_second),
            f"median of {figures.callers} callers": f"{figures.median:.2f} ms",
            f"p99 of {figures.callers} callers": f"{figures.p99:.2f} ms",
            "median of one caller": f"{figures.alone:.2f} ms",
            "way to the database and back": f"{figures.round_trip:.2f} ms",
        }
    )
    typer.echo("\n" + "\n".join(sentences))
