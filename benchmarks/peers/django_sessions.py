"""B4: Django's database sessions: `SessionStore` loaded, changed and saved, as Django does it for every request.

PostgreSQL through psycopg 3, a persistent connection for each thread (`CONN_MAX_AGE=None`), and `DEBUG` off. Django's
sessions are synchronous, so callers are threads of one process, as under a threaded WSGI server; their number is
searched: the best of `THREADS` is the peer. The application counts the request itself, in the session. No HTTP.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import asyncpg

from benchmarks.callers import Sample
from benchmarks.peers.missing import PeerMissing
from benchmarks.subject import METADATA

THREADS = (2, 4, 8, 16, 32)
MAX_AGE = 86_400


class DjangoSessions:
    """The peer with a number of threads."""

    def __init__(self, keys: Sequence[str], threads: int) -> None:
        self.name = f"Django's database sessions, {threads} threads"
        self.threads = threads
        self._keys = keys
        self._pool = ThreadPoolExecutor(max_workers=threads)

    @classmethod
    async def best(cls, address: str, schema: str, number: int, callers: int, seconds: float) -> Self:
        """Fill a schema, and take the best number of threads, each tried for a moment. Raises `PeerMissing`."""
        try:
            _configure(address, schema)
        except ModuleNotFoundError as error:
            raise PeerMissing(f"B4 has no Django: {error.name} is not installed") from error
        await asyncio.to_thread(_migrate)
        # The form of Django's keys: 32 characters.
        keys = [secrets.token_hex(16) for _ in range(number)]
        await _fill(address, schema, keys)
        rates: dict[int, float] = {}
        for threads in THREADS:
            if threads <= callers or not rates:
                tried = cls(keys, threads)
                await tried.measure(callers, seconds / 3)
                rates[threads] = (await tried.measure(callers, seconds)).per_second
                await tried.close()
        return cls(keys, max(rates, key=rates.__getitem__))

    async def close(self) -> None:
        """End the threads and their connections."""

        def disconnect(_: int) -> None:
            from django.db import connections

            # Each thread closes its own, and waits so long that no other takes its turn twice.
            connections.close_all()
            time.sleep(0.05)

        await asyncio.to_thread(list, self._pool.map(disconnect, range(self.threads)))
        self._pool.shutdown()

    async def measure(self, callers: int, seconds: float) -> Sample:
        """See `Contender`. More callers than threads wait in a queue that is not measured here."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        until = began + seconds
        slices = await asyncio.gather(
            *(loop.run_in_executor(self._pool, self._load, until) for _ in range(self.threads))
        )
        return Sample.of([each for latencies in slices for each in latencies], time.perf_counter() - began)

    def _load(self, until: float) -> list[float]:
        latencies: list[float] = []
        before = time.perf_counter()
        while before < until:
            _validate(random.choice(self._keys))
            after = time.perf_counter()
            latencies.append(after - before)
            before = after
        return latencies


def _validate(key: str) -> object:
    from django.contrib.sessions.backends.db import SessionStore

    session: Any = SessionStore(session_key=key)
    found = session["user_id"], session["data"]["lang"], session["created_at"]
    session["request_count"] += 1
    session.save()
    return *found, session["request_count"], session.get_expiry_date()


def _configure(address: str, schema: str) -> None:
    import django
    import psycopg  # noqa: F401 - what Django would miss later, with a longer message
    from django.conf import settings

    parts = urlsplit(address)
    settings.configure(
        DEBUG=False,
        SECRET_KEY="benchmarks" * 5,
        INSTALLED_APPS=["django.contrib.sessions"],
        SESSION_COOKIE_AGE=MAX_AGE,
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": parts.hostname or "",
                "PORT": str(parts.port or 5432),
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "NAME": parts.path.lstrip("/"),
                "CONN_MAX_AGE": None,
                "OPTIONS": {"options": f"-c search_path={schema}"},
            }
        },
    )
    django.setup()


def _migrate() -> None:
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0, interactive=False)
    connections.close_all()


async def _fill(address: str, schema: str, keys: Sequence[str]) -> None:
    from django.contrib.sessions.backends.db import SessionStore

    session = {"user_id": "user-1", "data": METADATA, "request_count": 0, "created_at": "2026-11-29T12:00:00Z"}
    # Signed with the secret key, but not with the session's: one text will do for all.
    text = SessionStore().encode(session)
    expires_at = datetime.now(UTC) + timedelta(seconds=MAX_AGE)
    connection = await asyncpg.connect(address)
    try:
        await connection.copy_records_to_table(
            "django_session",
            schema_name=schema,
            columns=["session_key", "session_data", "expire_date"],
            records=((key, text, expires_at) for key in keys),
        )
        await connection.execute(f"ANALYZE {schema}.django_session")
    finally:
        await connection.close()
