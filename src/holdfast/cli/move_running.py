"""What the commands of a move share: the two stores, a mover that is watched, and what is said in the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from holdfast.cli.environment import read_settings
from holdfast.cli.exits import DIFFERENT, FAILURE, REFUSED, USAGE, CommandEnded, complain, end
from holdfast.cli.move_view import View
from holdfast.cli.output import confirm, print_json

if TYPE_CHECKING:
    from holdfast.move.foresight import Goal
    from holdfast.move.mover import Mover
    from holdfast.move.status import MoveStatus, StoreName
    from holdfast.settings import Settings

_DEFAULT_PATH = Path("data/sessions.db")
# Another command of a move lets go within seconds, and one that was killed no later.
_WAIT_SECONDS = 10.0


class Stores:
    """The two stores of a move, and the settings that go with them."""

    def __init__(
        self,
        sqlite: Path | None,
        postgres: str | None,
        directory: Path | None = None,
        legacy_tz: str | None = None,
        **wishes: Any,
    ) -> None:
        """From a command's options over the environment. Ends the command when PostgreSQL is not named.

        The wishes are those of `conditions.Wishes`; one that is `None` was not given.
        """
        settings = read_settings(backup_directory=directory, legacy_tz=legacy_tz)
        url = settings.database_url
        if url is not None and url.startswith("sqlite"):
            if postgres is None:
                end(USAGE, "DATABASE_URL names a SQLite file; the other store of a move is PostgreSQL: add --postgres")
            url = None
        address = postgres or url
        if address is None:
            end(USAGE, "a move has two stores, and PostgreSQL is not named; set DATABASE_URL, or add --postgres")
        self.settings: Settings = settings
        self.sqlite = sqlite or settings.sqlite_path or _DEFAULT_PATH
        self.postgresql: str = address
        self._wishes = {name: value for name, value in wishes.items() if value is not None}

    async def status(self) -> "MoveStatus":
        """Where the move stands."""
        from holdfast.move.status import StatusReader

        async with StatusReader(self.sqlite, self.postgresql, self.settings.store_options()) as reader:
            return await reader.read()

    async def refuse_left_behind(self, to: "StoreName") -> None:
        """Raise `MoveRefused` when a process could not follow the authority to a store; say which could not back."""
        from holdfast.move.obstacles import obstacles
        from holdfast.move.state import MoveRefused

        found = await obstacles(to, self.sqlite, self.postgresql, self.settings.store_options())
        if found.refusals:
            raise MoveRefused(
                f"{'. '.join(found.refusals)}. A process that was stopped is forgotten after half a minute; with "
                "--ignore-processes it is done all the same"
            )
        for note in found.notes:
            complain(note)

    def mover(self, view: View, *, backups: bool) -> "Mover":
        """A mover between them, not opened."""
        from holdfast.move.conditions import Wishes
        from holdfast.move.mover import Mover

        return Mover(
            self.sqlite,
            self.postgresql,
            self.settings.store_options(),
            backups=self.settings.backup_directory if backups else None,
            tell=view,
            wishes=Wishes(**self._wishes),
            wait=_WAIT_SECONDS,
        )


def foretell(goal: "Goal", steps: list[str], *, as_json: bool) -> None:
    """Say what a command would do, for `--dry-run`."""
    if as_json:
        print_json({"command": goal, "dry_run": True, "steps": steps})
        return
    for number, step in enumerate(steps, 1):
        typer.echo(f"{number}. {step}")
    complain("nothing was changed" if steps else "there is nothing to do")


def pursue(
    stores: Stores,
    goal: "Goal",
    work: "Callable[[Mover], Awaitable[str | dict[str, Any]]]",
    *,
    dry_run: bool,
    as_json: bool,
    backups: bool = True,
    question: str | None = None,
    yes: bool = False,
) -> None:
    """Do what a command is for, or with `dry_run` say what that would be.

    `work` answers with the sentence, or with facts among which it is `said`, that the command ends with. Where
    something would be destroyed the question is asked first.
    """
    steps = interruptible(_foreseen(stores, goal, backups=backups))
    if dry_run:
        foretell(goal, steps, as_json=as_json)
        return
    if steps and question is not None:
        confirm(question, yes=yes)
    if steps and not backups and goal in ("start", "cutover", "rollback"):
        complain("no backup is taken: what goes wrong in both stores alike cannot be taken back")
    result = interruptible(_worked(stores, work, backups=backups))
    said = str(result.pop("said"))
    if as_json:
        print_json({"command": goal, "dry_run": False, "did_something": bool(steps), **result})
    else:
        for path in result["backups"]:
            typer.echo(path)
        complain(said)
    if result.get("differing"):
        raise CommandEnded(DIFFERENT)


async def _foreseen(stores: Stores, goal: "Goal", *, backups: bool) -> list[str]:
    from holdfast.move.foresight import steps_ahead

    async with stores.mover(View(), backups=backups) as mover:
        look = await mover.where()
        steps = steps_ahead(goal, look, backups=backups)
        if goal == "cutover" and (look.sqlite.authority, look.postgresql.phase) == ("here", "following"):
            await mover.refuse_unready()
        if goal == "seal":
            refuse_seal(stores.sqlite)
        return steps


def refuse_seal(path: Path) -> None:
    """Raise `MoveRefused` where there is nobody to be kept out of a file."""
    from holdfast.legacy.form import has_legacy_form
    from holdfast.move.state import MoveRefused

    if not has_legacy_form(path):
        raise MoveRefused(
            "this file has Holdfast's own form, which no old application writes; there is nothing to seal"
        )


async def _worked(
    stores: Stores, work: "Callable[[Mover], Awaitable[str | dict[str, Any]]]", *, backups: bool
) -> dict[str, Any]:
    with View() as view:
        view.status = await stores.status()
        async with stores.mover(view, backups=backups) as mover:
            answer = await work(mover)
            facts = answer if isinstance(answer, dict) else {"said": answer}
            waited = mover.writes_waited
            return {
                **facts,
                "backups": [str(path) for path in mover.taken],
                "writes_waited_ms": None if waited is None else round(waited * 1000, 1),
                "steps_ms": {step: round(seconds * 1000, 1) for step, seconds in mover.times.items()},
                "held_back_seconds": round(mover.progress.held_back, 1),
                "status": status_as_json(await stores.status()),
            }


def interruptible(work: Any) -> Any:
    """The answer of a coroutine. Ctrl-C ends the command where the next one goes on."""
    from holdfast.move.state import LeaseHeld, StoresDiffer

    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        complain("stopped; nothing is lost, and the same command goes on from here")
        raise CommandEnded(FAILURE) from None
    except StoresDiffer as error:
        end(DIFFERENT, str(error))
    except LeaseHeld as error:
        said = str(error)
        end(REFUSED, said if "; " in said else f"{said}; `holdfast move status` says where it stands now")


def status_as_json(status: "MoveStatus") -> dict[str, Any]:
    """A status for programs."""
    values = asdict(status)
    return values | {
        "move": status.move and str(status.move),
        "away": list(status.away),
        "lag_is_bound": status.lag_is_bound,
    }
