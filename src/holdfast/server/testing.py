"""The server of the test kit: the same application with a clock that a test moves over HTTP.

    python -m holdfast.server.testing --port 8001

It listens on loopback only, keeps sessions in memory unless `--database` names a store, and is no server for
people: whoever reaches it can expire every session.
"""

import argparse
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from holdfast.api.strict_json import StrictRoute
from holdfast.memory import MemoryStore
from holdfast.server.app import create_app
from holdfast.server.run import for_development, serve
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.timestamps import timestamp
from holdfast.settings import Settings
from holdfast.testing.clock import MovableClock

_CENTURY: Final = 36_525 * 86_400


class AdvanceBody(BaseModel):
    """How far to move time."""

    model_config = ConfigDict(extra="forbid", strict=True)
    advance_seconds: Annotated[float, Field(ge=0, le=_CENTURY)]


def create_test_app(
    settings: Settings | None = None, database: str | None = None, clock: MovableClock | None = None
) -> FastAPI:
    """The application over a store in memory, or over the database at an address, with a movable clock.

    `POST /testing/clock` with `{"advance_seconds": n}` moves time forward and answers `{"now": …}`.
    """
    chosen = settings or Settings()
    moved = clock or MovableClock()
    # Nothing may happen by itself while time stands still, and the sweep would wait for ever.
    chosen = replace(chosen, sweep_interval_seconds=None)
    manager: SessionManager
    if database is None:
        manager = chosen.manager(MemoryStore(), moved)
    else:
        manager = replace(chosen, database_url=database, sqlite_path=None, database_type=None).manager(clock=moved)
    app = create_app(chosen, manager)

    async def advance(body: AdvanceBody) -> dict[str, str]:
        """Move time forward; sessions expire by it."""
        moved.advance(timedelta(seconds=body.advance_seconds))
        return {"now": timestamp(await manager.ping())}

    app.router.add_api_route(
        "/testing/clock", advance, methods=["POST"], route_class_override=StrictRoute, include_in_schema=False
    )
    return app


def main() -> None:
    """Run it until a signal."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.server.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the log names it")
    parser.add_argument("--database", help="an address; without it, sessions are kept in memory")
    arguments = parser.parse_args()
    settings, made = for_development(replace(Settings.from_environment(), host="127.0.0.1", port=arguments.port))

    def show() -> None:
        for name, value in made.items():
            sys.stderr.write(f"{name}={value}\n")

    serve(settings, create_test_app(settings, arguments.database), show)


if __name__ == "__main__":
    main()
