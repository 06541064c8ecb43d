"""`holdfast doctor`."""

import asyncio
from dataclasses import asdict

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, REFUSED, CommandEnded
from holdfast.cli.options import AsJson, Postgres, Sqlite, refuse_both
from holdfast.cli.output import print_json, shown
from holdfast.sessions.errors import InvalidArgument


def doctor(sqlite: Sqlite = None, postgres: Postgres = None, as_json: AsJson = False) -> None:
    """Look for what is wrong, and say what to do; changes nothing.

    It looks at settings, machine and store. Exit code 0 when nothing is worse than a notice, 3 when a warning or a
    problem was found, 4 when the store cannot be reached.

    Example: holdfast doctor --postgres postgresql://holdfast@db/app
    """
    from holdfast.doctor.examine import examine
    from holdfast.doctor.finding import Diagnosis, Finding

    refuse_both(sqlite, postgres)
    try:
        diagnosis = asyncio.run(examine(read_settings(sqlite, postgres)))
    except InvalidArgument as refusal:
        diagnosis = Diagnosis(
            [Finding("settings", "problem", str(refusal), "see docs/reference/settings.md")], reachable=True
        )
    if as_json:
        print_json([asdict(finding) for finding in diagnosis.findings])
    else:
        for finding in diagnosis.findings:
            typer.echo(f"{finding.level:7}  {finding.name}: {shown(finding.what)}")
            if finding.remedy is not None and finding.level != "ok":
                typer.echo(f"{'':7}  → {shown(finding.remedy)}")
    if not diagnosis.reachable:
        raise CommandEnded(REFUSED)
    if not diagnosis.healthy:
        raise CommandEnded(DIFFERENT)
