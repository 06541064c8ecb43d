"""What an operator reads when PostgreSQL cannot be used: a sentence, what to do, and never the password."""

import logging
import traceback
from pathlib import Path

import pytest

from holdfast import SessionManager, StoreRefused, StoreUnavailable
from tests.conftest import MigratedDatabases
from tests.faults.bench import Truth, opened, options
from tests.support.admin import Databases, with_database, with_login, with_place
from tests.support.ports import LOOPBACK, free_port
from tests.support.tls import Certificate, TlsFront

SECRET = "hunter2-never-shown"


async def refusal(
    address: str, kind: type[Exception], caplog: pytest.LogCaptureFixture, *, secret: str = SECRET
) -> str:
    """The message of the error that opening a store raises; no trace of it and no log holds the password."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(kind) as caught:
        await SessionManager(address, sweep_interval=None, options=options()).open()
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert secret not in caplog.text
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "PostgreSQL at postgresql://" in message
    return message


async def test_wrong_password(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-70: 28P01."""
    address = with_login(database, "holdfast", SECRET)
    assert "password is wrong; check DATABASE_URL" in await refusal(address, StoreRefused, caplog)


async def test_no_such_database(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-70: 3D000."""
    address = with_database(database, "nowhere")
    secret = database.partition("holdfast:")[2].partition("@")[0]
    message = await refusal(address, StoreRefused, caplog, secret=secret)
    assert "there is no such database; create it, or correct the address" in message


async def test_nobody_listens(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-70: connection refused."""
    address = with_place(with_login(database, "holdfast", SECRET), LOOPBACK, free_port())
    message = await refusal(address, StoreUnavailable, caplog)
    assert "nobody listens there; check host and port, and whether the server runs" in message


async def test_a_name_that_does_not_resolve(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-70, F-25 in part: the host name is unknown."""
    address = with_place(with_login(database, "holdfast", SECRET), "no-such-host.invalid", 5432)
    assert "the host name does not resolve; check the address" in await refusal(address, StoreUnavailable, caplog)


async def test_only_a_read_only_server(database: str, facts: Truth, caplog: pytest.LogCaptureFixture) -> None:
    """S-70, F-11: every host of the address is read-only."""
    name = await facts.value("SELECT current_database()")
    await facts.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    secret = database.partition("holdfast:")[2].partition("@")[0]
    assert "none of its hosts takes writes" in await refusal(database, StoreUnavailable, caplog, secret=secret)


async def test_a_missing_privilege(
    migrated_database: MigratedDatabases, postgres: Databases, database: str, facts: Truth
) -> None:
    """S-70, S-74: a role that may read and change rows is enough; one that lacks a privilege is told so."""
    name = await facts.value("SELECT current_database()")
    address = postgres.restricted_role(name, "public")
    try:
        async with opened(address) as manager:
            new = await manager.create_session("u1")
            assert await manager.validate_session(new.token) is not None
            await manager.sweep()
            await facts.run("REVOKE UPDATE ON sessions FROM " + address.partition("://")[2].partition(":")[0])
            for call in (manager.validate_session(new.token), manager.extend_session(new.token)):
                with pytest.raises(StoreRefused, match="lacks a privilege; grant it, or run `holdfast db upgrade`"):
                    await call
            assert await manager.get_session(new.token) is not None
    finally:
        postgres.drop_role(address, name)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A certificate for loopback."""
    made = Certificate.create(tmp_path)
    if made is None:
        pytest.skip("there is no program openssl")
    return made


async def test_tls_with_the_right_certificate(database: str, certificate: Certificate) -> None:
    """S-76: verify-full against the certificate that the server shows."""
    async with TlsFront(database, certificate) as front:
        async with opened(front.address("verify-full"), deadline=5.0) as manager:
            new = await manager.create_session("u1")
            assert await manager.validate_session(new.token) is not None
        assert front.encrypted > 0


async def test_tls_with_a_wrong_certificate(
    database: str, certificate: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S-76: another certificate is refused, and the message says which option to look at."""
    (tmp_path / "other").mkdir()
    other = Certificate.create(tmp_path / "other")
    assert other is not None
    secret = database.partition("holdfast:")[2].partition("@")[0]
    async with TlsFront(database, certificate) as front:
        address = front.address("verify-full").replace("server.crt", "other%2Fserver.crt")
        message = await refusal(address, StoreUnavailable, caplog, secret=secret)
        assert "its certificate is not the one expected; check sslmode and sslrootcert" in message


async def test_tls_is_not_given_up(database: str, certificate: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    """S-76: sslmode=require does not go on in clear when the server has no TLS."""
    secret = database.partition("holdfast:")[2].partition("@")[0]
    message = await refusal(f"{database}?sslmode=require", StoreUnavailable, caplog, secret=secret)
    assert "not available" in message
