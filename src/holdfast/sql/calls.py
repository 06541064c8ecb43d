"""Plain calls: everything but the joined touches and creates, each on a pooled connection of its own for a moment.

A call runs in a task of its own. The caller waits for it until the deadline and may be cancelled at any point; the
task goes on to a clean end either way, so no connection is ever left in the middle of something.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from holdfast.sessions.errors import OutcomeUnknown, StoreUnavailable
from holdfast.sessions.observer import NOBODY, Observer
from holdfast.sql.failures import WORTH_REPEATING, Kind, NotDone, kind_of, pause, to_raise

Answer = TypeVar("Answer")

Reading = Callable[[Connection], Answer]
"""What to do with a connection, changing nothing; may be called several times."""
Writing = Callable[[Connection, bool], Answer]
"""What to do within one transaction; may be called several times. The flag says that an earlier attempt of this call
may have been committed: then what it wanted counts as done if it is found done."""

# Hardly a plain call takes long: whoever has waited so many seconds for a connection would wait longer still.
_PATIENCE_SECONDS = 2.0


class _Progress:
    """How far a call has come, as its caller must know when the deadline passes."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """When the loop's clock shows this, no further attempt is made: a caller that was cancelled cannot say so."""

    abandoned = False
    """Set by the caller that gave up: the task must not commit any more."""
    committing = False
    """Set by the task when the commit may have been sent."""
    may_have_committed = False
    """Set by the task when a commit was sent and its answer was lost."""
    last_failure: BaseException | None = None


class Calls:
    """Runs plain calls on one engine."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        connections: int,
        where: str,
        deadline: float,
        in_transaction: bool = False,
        kinds: tuple[str, str] = ("read", "write"),
        observer: Observer = NOBODY,
    ) -> None:
        """Prepare it.

        Args:
            engine: where the connections come from.
            connections: how many calls run at once, so that what else the engine's pool holds stays for others.
            where: the store's name for messages.
            deadline: seconds from a call to its answer, retries included.
            in_transaction: whether reads need a transaction too, as behind a transaction pooler.
            kinds: what the observer calls readings and writings.
            observer: told of every call and of every error that a caller gets.
        """
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._slots = asyncio.Semaphore(connections)
        self._patience = min(_PATIENCE_SECONDS, deadline)
        self._where = where
        self._deadline = deadline
        self._in_transaction = in_transaction
        self._kinds = kinds
        self._observer = observer
        self._tasks: set[asyncio.Task[Any]] = set()

    async def read(self, reading: Reading[Answer]) -> Answer:
        """The answer of a reading. Raises `StoreUnavailable` at the deadline."""
        return await self._observed(self._reads(reading, progress := self._begun()), progress, self._kinds[0])

    async def write(self, writing: Writing[Answer]) -> Answer:
        """The answer of a committed writing. Raises `StoreUnavailable` when not done, else `OutcomeUnknown`."""
        return await self._observed(self._writes(writing, progress := self._begun()), progress, self._kinds[1])

    async def close(self) -> None:
        """Wait until no call is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _begun(self) -> _Progress:
        return _Progress(asyncio.get_running_loop().time() + self._deadline)

    async def _observed(self, work: Coroutine[Any, Any, Answer], progress: _Progress, kind: str) -> Answer:
        time = asyncio.get_running_loop().time
        began = time()
        failure: BaseException | None = None
        try:
            return await self._call(work, progress)
        except BaseException as error:
            failure = error
            if isinstance(error, Exception):
                self._observer.failed(error)
            raise
        finally:
            self._observer.called(kind, time() - began, failure)

    async def _call(self, work: Coroutine[Any, Any, Answer], progress: _Progress) -> Answer:
        task = asyncio.create_task(work, name="holdfast-call")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        await asyncio.wait((task,), timeout=self._deadline)
        if task.done():
            return task.result()
        progress.abandoned = True
        if progress.committing or progress.may_have_committed:
            raise OutcomeUnknown(f"{self._where} did not answer; the write may or may not have happened")
        if progress.last_failure is not None:
            raise to_raise(progress.last_failure, self._where)
        raise StoreUnavailable(f"{self._where} did not answer within {self._deadline:g} s; nothing was done")

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        # Looked at here, so that the failure of a call nobody waits for any more is not reported as forgotten.
        if not task.cancelled():
            task.exception()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the calls that may run at once. Waiting long for it is an overload."""
        try:
            async with asyncio.timeout(self._patience):
                await self._slots.acquire()
        except TimeoutError as error:
            raise NotDone(Kind.BUSY, error) from error
        try:
            yield
        finally:
            self._slots.release()

    async def _reads(self, reading: Reading[Answer], progress: _Progress) -> Answer:
        engine = self._engine if self._in_transaction else self._autocommit
        failures = 0
        while True:
            try:
                async with self._slot(), _connected(engine) as connection:
                    return await connection.run_sync(reading)
            except Exception as error:
                failures += 1
                await self._again(error, progress, failures)

    async def _writes(self, writing: Writing[Answer], progress: _Progress) -> Answer:
        failures = 0
        while True:
            try:
                async with self._slot(), _connected(self._engine) as connection:
                    answer = await connection.run_sync(writing, progress.may_have_committed)
                    if progress.abandoned:
                        await connection.rollback()
                        raise StoreUnavailable("the caller was told that nothing was done")
                    progress.committing = True
                    await connection.commit()
                    return answer
            except Exception as error:
                failures += 1
                if progress.committing and kind_of(error) in (Kind.LOST, Kind.BUG):
                    progress.may_have_committed = True
                progress.committing = False
                try:
                    await self._again(error, progress, failures)
                except Exception as raised:
                    if not progress.may_have_committed:
                        raise
                    raise OutcomeUnknown(f"{self._where}: the write may or may not have happened") from raised

    async def _again(self, error: Exception, progress: _Progress, failures: int) -> None:
        """Return after a pause when another attempt is worth it; raise what the caller gets when not."""
        kind = kind_of(error)
        if kind is Kind.BUG:
            raise error
        late = progress.abandoned or asyncio.get_running_loop().time() >= progress.deadline
        if kind not in WORTH_REPEATING or late:
            raise to_raise(error, self._where) from error
        progress.last_failure = error
        await asyncio.sleep(pause(failures))


class _connected:  # noqa: N801 - it reads as a statement
    """A connection for a moment, which is thrown away instead of returned when it turned out to be of no more use."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def __aenter__(self) -> AsyncConnection:
        self._connection = await self._engine.connect()
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and kind_of(error) in (Kind.LOST, Kind.DROP):
            await discard(self._connection)
        else:
            await self._connection.close()


async def discard(connection: AsyncConnection) -> None:
    """Throw a connection away without asking it anything: it may never answer."""
    with suppress(Exception):
        raw = await connection.get_raw_connection()
        if (terminate := getattr(raw.driver_connection, "terminate", None)) is not None:
            terminate()
    with suppress(Exception):
        await connection.invalidate()
    with suppress(Exception):
        await connection.close()
