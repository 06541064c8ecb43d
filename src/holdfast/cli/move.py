"""`holdfast move`: the sessions go from SQLite to PostgreSQL while they are used, and back."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import move_ending, move_looking
from holdfast.cli.exits import REFUSED, end
from holdfast.cli.move_following import follow as keep_following
from holdfast.cli.move_looking import next_step
from holdfast.cli.move_running import Stores, pursue
from holdfast.cli.options import (
    AsJson,
    Directory,
    DryRun,
    IgnoreProcesses,
    KeepWayBack,
    LegacyZone,
    NoBackup,
    OnBadExpiry,
    Postgres,
    Quiet,
    Sqlite,
    TrustZone,
)

if TYPE_CHECKING:
    from holdfast.move.mover import Mover

app = typer.Typer(no_args_is_help=True, help="Move sessions in use from SQLite to PostgreSQL, and back.")
app.command("plan")(move_looking.plan)


@app.command()
def start(
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep following until you stop it, instead of ending once all is copied.")
    ] = False,
    on_bad_expiry: Annotated[
        OnBadExpiry | None,
        typer.Option(
            help="Of a legacy file: what becomes of a row whose expiry is no time; extend means a day from now. Said "
            "once, it holds for the whole move.",
            show_default="quarantine",
        ),
    ] = None,
    legacy_tz: LegacyZone = None,
    trust_legacy_tz: TrustZone = False,
    keep_legacy_way_back: KeepWayBack = False,
    dry_run: DryRun = False,
    no_backup: NoBackup = False,
    directory: Directory = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Copy all sessions to PostgreSQL, and follow what is written.

    Or go on with that. Nobody notices: SQLite keeps the authority. It ends when nothing is left to apply; what is
    written later is noted in the file, and applied by the next command, or by --follow at once. Stop it as you like and
    run it again.

    Example: holdfast move start --sqlite data/sessions.db --postgres postgresql://holdfast@db/app
    """
    stores = Stores(
        sqlite,
        postgres,
        directory,
        legacy_tz,
        on_bad_expiry=None if on_bad_expiry is None else on_bad_expiry.value,
        trust_zone=trust_legacy_tz,
        keep_way_back=keep_legacy_way_back,
    )

    async def work(mover: "Mover") -> str:
        await mover.start()
        status = await stores.status()
        if status.phase is None:
            # It was in the midst of its end, and that comes first.
            end(REFUSED, f"the end of the move that was begun is done; next: {next_step(status) or 'nothing'}")
        if status.authority == "postgresql":
            return "PostgreSQL serves already, and SQLite has all that was written there"
        return f"{status.copied or 0:,} rows are copied, and PostgreSQL follows; next: holdfast move verify"

    pursue(stores, "start", work, dry_run=dry_run, as_json=as_json, backups=not no_backup)
    if follow and not dry_run:
        keep_following(stores)


app.command("status")(move_looking.status)


@app.command()
def verify(
    mend: Annotated[
        bool,
        typer.Option("--mend", help="Take rows that differ once more from the store that serves, and compare again."),
    ] = False,
    dry_run: DryRun = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Compare all rows of both stores while writes go on. Exit code 3 when they differ.

    Before the cut-over it proves the copy, after it the way back. Rows differ when somebody wrote to a store past
    Holdfast: find out who it was before you --mend them.

    Example: holdfast move verify
    """
    stores = Stores(sqlite, postgres)

    async def work(mover: "Mover") -> dict[str, Any]:
        found = await mover.verify()
        mended = 0
        if mend and not found.clean:
            mended = sum(map(len, found.differing.values()))
            found = await mover.mend(found)
        differing = {table: len(keys) for table, keys in found.differing.items() if keys}
        named = mover.named(found)
        said = f"{found.rows:,} rows compared, and none differs" + (f"; {mended:,} were mended" if mended else "")
        if differing:
            counts = ", ".join(f"{count:,} in {table}" for table, count in differing.items())
            said = (
                f"rows differ: {counts} ({', '.join(named)}); somebody changed them past Holdfast, or a store was "
                "restored. Find out who it was; --mend takes them from the store that serves"
            )
        return {"said": said, "rows": found.rows, "differing": differing, "mended": mended, "named": named}

    pursue(stores, "verify", work, dry_run=dry_run, as_json=as_json)


@app.command()
def seal(
    quiet: Quiet = 10,
    legacy_tz: LegacyZone = None,
    dry_run: DryRun = False,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Refuse the old application's writes to a legacy file.

    From now on; Holdfast's own are taken as before.

    Once its processes are replaced: what one that was forgotten tries to write then fails there with an error, and
    nobody sees it here. Hence the quiet seconds before. After a cut-over the file is sealed for all.

    Example: holdfast move seal --quiet 30
    """
    stores = Stores(sqlite, postgres, None, legacy_tz, quiet=timedelta(seconds=quiet))

    async def work(mover: "Mover") -> str:
        await mover.seal()
        if (await mover.where()).sqlite.authority != "here":
            return "PostgreSQL serves, and the file takes nobody's writes"
        return "the old application's writes are refused; next: holdfast move cutover"

    pursue(stores, "seal", work, dry_run=dry_run, as_json=as_json)


@app.command()
def cutover(
    budget: Annotated[
        int, typer.Option(min=1, max=60_000, help="Milliseconds after which it is called off, if nothing is decided.")
    ] = 2000,
    accept_quarantined: Annotated[
        int, typer.Option(min=0, help="Of a legacy file: leave exactly so many rows behind that may log somebody in.")
    ] = 0,
    quiet: Quiet = 10,
    ignore_processes: IgnoreProcesses = False,
    legacy_tz: LegacyZone = None,
    trust_legacy_tz: TrustZone = False,
    keep_legacy_way_back: KeepWayBack = False,
    dry_run: DryRun = False,
    no_backup: NoBackup = False,
    directory: Directory = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Compare all rows once more, then let PostgreSQL serve. Writes wait for milliseconds, nobody is logged out.

    When the stores differ (exit code 3) or nothing is decided within the budget (exit code 4), SQLite serves on as if
    nothing had been. From then on what is written in PostgreSQL is noted for the way back.

    Example: holdfast move cutover --budget 500
    """
    stores = Stores(
        sqlite,
        postgres,
        directory,
        legacy_tz,
        accept_quarantined=accept_quarantined,
        quiet=timedelta(seconds=quiet),
        trust_zone=trust_legacy_tz,
        keep_way_back=keep_legacy_way_back,
    )

    async def work(mover: "Mover") -> str:
        if not ignore_processes and (await mover.where()).sqlite.authority == "here":
            await stores.refuse_left_behind("postgresql")
        await mover.cut_over(timedelta(milliseconds=budget))
        waited = "" if mover.writes_waited is None else f"; writes waited for {mover.writes_waited * 1000:,.0f} ms"
        return f"PostgreSQL serves{waited}; back with holdfast move rollback, or end it with holdfast move complete"

    pursue(stores, "cutover", work, dry_run=dry_run, as_json=as_json, backups=not no_backup)


@app.command()
def rollback(
    budget: Annotated[
        int, typer.Option(min=1, max=60_000, help="Milliseconds after which it is called off, if nothing is decided.")
    ] = 2000,
    ignore_processes: IgnoreProcesses = False,
    dry_run: DryRun = False,
    no_backup: NoBackup = False,
    directory: Directory = None,
    sqlite: Sqlite = None,
    postgres: Postgres = None,
    as_json: AsJson = False,
) -> None:
    """Let SQLite serve again, with what was written meanwhile. You can cut over again any time.

    When the stores differ (exit code 3) or nothing is decided within the budget (exit code 4), PostgreSQL serves on as
    if nothing had been.

    Example: holdfast move rollback
    """
    stores = Stores(sqlite, postgres, directory)

    async def work(mover: "Mover") -> str:
        if not ignore_processes and (await mover.where()).postgresql.phase == "switched":
            await stores.refuse_left_behind("sqlite")
        await mover.roll_back(timedelta(milliseconds=budget))
        waited = "" if mover.writes_waited is None else f"; writes waited for {mover.writes_waited * 1000:,.0f} ms"
        return f"SQLite serves{waited}; PostgreSQL follows: cut over again, or end it with holdfast move abort"

    pursue(stores, "rollback", work, dry_run=dry_run, as_json=as_json, backups=not no_backup)


app.command("complete")(move_ending.complete)
app.command("abort")(move_ending.abort)
