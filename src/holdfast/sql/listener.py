"""PostgreSQL's push channel: one connection that listens for hints about sessions that other servers end.

A hint is an id or a few, never a token, or `*` for more than fit. Everybody who may use the database can read hints
and send false ones, so they only say where to look. They are lost while nobody listens, hence a look at everything
after every connect.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Any, Final
from uuid import UUID

from holdfast.sessions.errors import StoreUnavailable
from holdfast.sessions.store import Hint
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.connections import first_that_takes_writes
from holdfast.sql.failures import to_raise

EVERYTHING: Final = "*"
MAX_IDS: Final = 200
"""So many ids fit into one notification, whose payload PostgreSQL limits to 8000 bytes."""

_CONNECT_SECONDS: Final = 3.0
# A line that was cut in silence is found out by asking. Well below the poll, so that the state shown is true.
_PULSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 2.0
# More in one pulse are not read one by one: it is cheaper to look at everything, and they may be meant to cost.
_MAX_HINTS: Final = 2000

log = logging.getLogger("holdfast.sql")


def channel_of(schema: str) -> str:
    """The channel's name: one for each schema, because a database may hold several."""
    # PostgreSQL takes 63 bytes. Schemas that share their beginning only hear each other's hints in vain.
    return f"holdfast_{schema}"[:63]


def hint_about(ids: Collection[str]) -> str:
    """The text of a hint: the ids, or everything when there are more than fit."""
    return EVERYTHING if len(ids) > MAX_IDS else ",".join(ids)


class Listener:
    """Listens until it is cancelled, connecting again whenever the connection is lost."""

    def __init__(self, address: PostgresqlAddress, schema: str) -> None:
        """Prepare it; connects to nothing yet."""
        self._address = address
        self._channel = channel_of(schema)
        self._where = f"PostgreSQL at {address}"
        self._hints = 0
        self.connected = False
        """Whether hints arrive just now, as far as the last pulse showed."""

    async def run(self, hint: Hint) -> None:
        """Hint at what is heard. Raises nothing but cancellation."""
        failures = 0
        while True:
            try:
                await self._listen(hint)
            except Exception as error:
                if self.connected or failures == 0:
                    log.warning(
                        "not told of other servers' ends until the listening connection is back; asking instead: %s",
                        to_raise(error, self._where),
                    )
                failures = 1 if self.connected else failures + 1
                self.connected = False
            await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10)))

    async def _listen(self, hint: Hint) -> None:
        lost = asyncio.Event()
        connect = first_that_takes_writes(self._address.dsn)
        connection = await connect(
            timeout=_CONNECT_SECONDS,
            dsn=self._address.dsn,
            command_timeout=_PULSE_SECONDS,
            server_settings={"application_name": "holdfast-listener"},
            statement_cache_size=0,
        )
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, lambda *message: self._heard(hint, message[-1]))
            self.connected = True
            log.info("listening for other servers' ends")
            hint(None)
            while await self._pulse(connection, lost):
                if self._hints > _MAX_HINTS:
                    hint(None)
                self._hints = 0
        finally:
            # Its own connection, with nothing on it worth an orderly end.
            connection.terminate()
        raise StoreUnavailable(f"{self._where} closed the listening connection, or is read-only now")

    async def _pulse(self, connection: Any, lost: asyncio.Event) -> bool:
        """Whether the connection still leads to a server that takes writes, asked after a pause."""
        try:
            async with asyncio.timeout(_PULSE_SECONDS):
                await lost.wait()
        except TimeoutError:
            return bool(await connection.fetchval("SELECT current_setting('transaction_read_only')") == "off")
        return False

    def _heard(self, hint: Hint, text: object) -> None:
        self._hints += 1
        if self._hints <= _MAX_HINTS and isinstance(text, str):
            hint(None if text == EVERYTHING else list(_ids(text)))


def _ids(text: str) -> Iterable[UUID]:
    """The ids in a hint; what is none is passed over, whoever sent it."""
    for part in text.split(",", MAX_IDS):
        try:
            yield UUID(part)
        except ValueError:
            continue
