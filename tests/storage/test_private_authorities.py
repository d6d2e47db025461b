"""MongoDB and NATS over TLS, with certificates of a private authority."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from runtime.lifecycle import CannotStart, wait_for_database
from settings import Settings, SettingsError, read_settings
from storage.mongo.database import open_database
from storage.queue.connection import NatsConnection
from tests.authorities import Authority, an_authority
from tests.brokers import NatsServer
from tests.serving import free_port
from tests.tools import need, need_mongod

START_SECONDS = 60.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return an_authority(tmp_path / "authority.pem")


@asynccontextmanager
async def encrypted_mongod(folder: Path, authority: Authority) -> AsyncIterator[str]:
    """A replica set of one that takes encrypted connections only; its URI."""
    port, data = free_port(), folder / "data"
    data.mkdir()
    process = await asyncio.create_subprocess_exec(
        need_mongod(),
        *("--dbpath", data, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
        *("--replSet", "encrypted", "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "50"),
        *("--tlsMode", "requireTLS", "--tlsCAFile", authority.file),
        *("--tlsCertificateKeyFile", authority.issue(folder / "mongod.pem")),
        "--tlsAllowConnectionsWithoutCertificates",
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            f"mongodb://127.0.0.1:{port}",
            directConnection=True,
            tls=True,
            tlsCAFile=str(authority.file),
            serverSelectionTimeoutMS=START_SECONDS * 1000,
        )
        async with client:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            await client.admin.command("replSetInitiate", {"_id": "encrypted", "members": members})
        yield f"mongodb://127.0.0.1:{port}/?replicaSet=encrypted"
    finally:
        process.kill()
        await process.wait()


async def test_mongodb_is_reached_only_with_its_private_authority(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with encrypted_mongod(tmp_path, authority) as uri:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("DARKROOM_MONGODB_URI", uri)
        monkeypatch.setenv("DARKROOM_MONGODB_CA_FILE", authority.file.name)
        settings = read_settings()
        assert settings.mongodb_uri is not None

        async with open_database(settings.mongodb_uri.get_secret_value(), "test") as database:
            await database.ping()
            assert await database.accounts.find_one({}) is None

        other = an_authority(tmp_path / "other.pem")
        stranger = Settings(mongodb_uri=SecretStr(uri), mongodb_ca_file=other.file)
        assert stranger.mongodb_uri is not None
        with pytest.raises(CannotStart, match="a certificate that is not trusted here"):
            await wait_for_database(stranger.mongodb_uri.get_secret_value(), START_SECONDS)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_nats_is_reached_only_with_its_private_authority(
    authority: Authority, tmp_path: Path, scheme: str
) -> None:
    pem = authority.issue(tmp_path / "nats.pem")
    tls = f"tls {{ cert_file: '{pem}', key_file: '{pem}' }}"
    server = NatsServer(tmp_path, binary=need("nats-server"), authorization=tls)
    url = SecretStr(f"{scheme}://127.0.0.1:{server.port}")
    await server.start()
    try:
        connection = NatsConnection(url, database="test", ca_file=authority.file)
        async with connection.serve(), asyncio.timeout(START_SECONDS):
            await connection.wait_until_connected()

        stranger = NatsConnection(url, database="test")
        async with stranger.serve():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await stranger.wait_until_connected()
        del stranger
    finally:
        await server.kill()
    # nats-py leaves the socket of a handshake that failed to the collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize(
    ("uri", "made"),
    [
        ("mongodb://a:1,b:2", "mongodb://a:1,b:2/?tls=true&tlsCAFile={}"),
        ("mongodb://a/", "mongodb://a/?tls=true&tlsCAFile={}"),
        ("mongodb+srv://u:p@a/x?w=1", "mongodb+srv://u:p@a/x?w=1&tls=true&tlsCAFile={}"),
    ],
)
def test_the_uri_includes_the_authority_file(authority: Authority, uri: str, made: str) -> None:
    settings = Settings(mongodb_uri=SecretStr(uri), mongodb_ca_file=authority.file)

    assert settings.mongodb_uri is not None
    found = settings.mongodb_uri.get_secret_value()
    assert found.replace("%2F", "/") == made.format(authority.file)


def test_a_missing_file_of_authorities_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_NATS_CA_FILE", "/nowhere/ca.pem")

    with pytest.raises(SettingsError, match="should name a file; /nowhere"):
        read_settings()
