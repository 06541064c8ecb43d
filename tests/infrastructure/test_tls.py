"""A client can be shown a server with TLS, though the servers of the wheel have none."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.support import binaries
from tests.support.postgres import PostgresCluster
from tests.support.tls import Certificate, TlsFront


@pytest.fixture
async def front(postgres_18: PostgresCluster, tmp_path: Path) -> AsyncIterator[TlsFront]:
    certificate = Certificate.create(tmp_path)
    if certificate is None:
        pytest.skip("no program openssl to make a certificate with")
    async with TlsFront(postgres_18.address(), certificate) as made:
        yield made


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require", "prefer"])
async def test_encrypts(front: TlsFront, mode: str) -> None:
    """A client that asks for TLS gets it and reaches the database."""
    connection = await asyncpg.connect(front.address(mode))
    assert await connection.fetchval("SELECT repeat('x', 100000)") == "x" * 100_000
    assert front.encrypted == 1
    await connection.close()


async def test_turns_plain_clients_away(front: TlsFront) -> None:
    """Without encryption nothing but an error is to be had."""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="requires encryption"):
        await asyncpg.connect(front.address("disable"))


async def test_unknown_certificate_is_seen(front: TlsFront, tmp_path: Path) -> None:
    """A client that checks certificates against another one does not connect."""
    (tmp_path / "other").mkdir()
    other = Certificate.create(tmp_path / "other")
    assert other is not None
    own = ssl.create_default_context(cafile=other.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(front.address("verify-full"), ssl=own)


@pytest.mark.parametrize("version", binaries.VERSIONS)
def test_servers_have_no_tls_themselves(version: int) -> None:
    """Should a later wheel bring it, this fails, and the front can go."""
    assert not binaries.has_tls(version)
