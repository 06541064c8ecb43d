"""The manager's life beside the application's: opened before the first request, closed after the last one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.types import StatefulLifespan, StatelessLifespan

from holdfast.sessions.manager import SessionManager

_Application = Any
Lifespan = StatelessLifespan[_Application] | StatefulLifespan[_Application]


def session_lifespan(manager: SessionManager, lifespan: Lifespan | None = None) -> Lifespan:
    """A lifespan that opens the manager and closes it: `FastAPI(lifespan=session_lifespan(manager))`.

    Args:
        manager: the one to open.
        lifespan: the application's own, if it has one. It runs while the manager is open, and what it yields is
            passed on.

    Starting fails when the store cannot be opened: `StoreUnavailable`, `StoreRefused`.
    """

    @asynccontextmanager
    async def opened(app: _Application) -> AsyncIterator[Any]:
        async with manager:
            if lifespan is None:
                yield None
            else:
                async with lifespan(app) as state:
                    yield state

    return cast(Lifespan, opened)
