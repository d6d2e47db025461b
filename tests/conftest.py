"""Real services for every test: a mongod, a database, a served Darkroom and its clients."""

import asyncio
import gc
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo.monitoring
import pytest
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as property_settings
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from app import create_app
from edge.auth import LEEWAY
from edge.dev_tokens import DevelopmentIssuer
from edge.frames import WebSocketProtocol
from runtime.listening import listen_for_operators
from runtime.local_mongod import Mongod
from settings import Settings
from storage.mongo.collections import COLLECTIONS
from storage.mongo.database import Database, open_database
from storage.objects.bucket import Bucket
from tests.brokers import NatsServer
from tests.buckets import Ceph, Ministack, S3Server, bucket_at
from tests.clients import GraphQLClient
from tests.order import dealt
from tests.resilience.scale import THOROUGH
from tests.serving import free_port, serving
from tests.shard_keys import ShardKeys
from tests.storage.places import new_bucket
from tests.tools import left_out, need, need_mongod
from tests.unlimited import UNLIMITED

MEMORY_FOLDER = Path("/dev/shm")
NEEDED_BYTES = 4_000_000_000
GARBAGE_THRESHOLDS = (5_000, 10, 10)


@pytest.fixture(scope="session")
async def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A replica set: the one that DARKROOM_TEST_MONGODB_URI names, or one that the tests start."""
    given = os.environ.get("DARKROOM_TEST_MONGODB_URI")
    if given:
        yield given
        async with AsyncMongoClient[dict[str, object]](given) as client:
            for name in _emptied.pop(given, []):
                await client.drop_database(name)
        return
    mongod = Mongod(
        tmp_path_factory.mktemp("mongod"), binary=need_mongod(), preferred_port=free_port()
    )
    await mongod.start()
    yield mongod.uri
    await mongod.stop()


@pytest.fixture(scope="session")
async def ministack_bucket(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bucket]:
    """On a server that all tests share."""
    async with _a_bucket_on(Ministack(tmp_path_factory.mktemp("ministack"))) as bucket:
        yield bucket


@pytest.fixture(scope="session")
async def ceph_bucket(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bucket]:
    """On a server that all tests share."""
    async with _a_bucket_on(Ceph(tmp_path_factory.mktemp("ceph"))) as bucket:
        yield bucket


@asynccontextmanager
async def _a_bucket_on(server: S3Server) -> AsyncIterator[Bucket]:
    try:
        await server.start()
        yield await new_bucket(bucket_at(server.url))
    finally:
        await server.stop()


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """This test's own NATS, which it may stop and kill."""
    server = NatsServer(tmp_path, binary=need("nats-server"))
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    return nats_server.url


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[Database]:
    """A database of this test's own."""
    async with a_database_name(mongodb_uri) as name, open_database(mongodb_uri, name) as database:
        yield database


@pytest.fixture
async def database_name(mongodb_uri: str) -> AsyncIterator[str]:
    """The name of a database for processes that this test starts."""
    async with a_database_name(mongodb_uri) as name:
        yield name


_emptied: dict[str, list[str]] = {}
"""Names of databases that no test uses, by URI: with all collections and indexes, and no
documents. To make these takes ten times as long as to empty them.
"""


@asynccontextmanager
async def a_database_name(uri: str) -> AsyncIterator[str]:
    """The name of an empty database that no other test uses."""
    unused = _emptied.setdefault(uri, [])
    name = unused.pop() if unused else f"test_{uuid4().hex}"
    try:
        yield name
    finally:
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            if await _empty(client[name]):
                unused.append(name)
            else:
                await client.drop_database(name)


async def _empty(database: AsyncDatabase[dict[str, object]]) -> bool:
    """Delete all documents. False if the collections are not those that Darkroom makes."""
    names = await database.list_collection_names()
    if sorted(names) != sorted(COLLECTIONS):
        return False
    # Most are empty: to ask at once which are not takes a third of the time of emptying all.
    stages: list[dict[str, Any]] = []
    for name in names:
        named: list[dict[str, Any]] = [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]
        stages += [{"$unionWith": {"coll": name, "pipeline": named}}] if stages else named
    async with await database[names[0]].aggregate(stages) as filled:
        await asyncio.gather(*[database[str(one["_id"])].delete_many({}) async for one in filled])
    return True


class Darkroom:
    """A served Darkroom, and clients of it that are closed at the end."""

    def __init__(self, url: str, settings: Settings, stack: AsyncExitStack) -> None:
        self.url = url
        self.settings = settings
        self._stack = stack
        self._issuer = DevelopmentIssuer(settings.data_dir)
        self._numbers = itertools.count(1)

    def token(self, viewer: str) -> str:
        return self._issuer.token(viewer)

    def ending_token(self, viewer: str, *, in_seconds: float) -> str:
        """A token that has expired, and is accepted for this much longer."""
        return self._issuer.token(viewer, life=timedelta(seconds=in_seconds) - LEEWAY)

    def client(self, viewer: str | None = None) -> GraphQLClient:
        """A client of a viewer, of a new one where none is named."""
        viewer = viewer or f"viewer {next(self._numbers)} of {uuid4().hex}"
        return self._keep(GraphQLClient(self.url, self.token(viewer)))

    def anonymous(self) -> GraphQLClient:
        return self._keep(GraphQLClient(self.url, None))

    def with_token(self, token: str) -> GraphQLClient:
        return self._keep(GraphQLClient(self.url, token))

    def _keep(self, client: GraphQLClient) -> GraphQLClient:
        self._stack.push_async_callback(client.aclose)
        return client


StartDarkroom = Callable[..., Awaitable[Darkroom]]
"""Takes settings that differ from the tests' own, by name. It ends with the stack `within`."""


@asynccontextmanager
async def darkrooms(uri: str, folder: Path) -> AsyncIterator[StartDarkroom]:
    """Start any number of Darkrooms on one database and one folder."""
    async with AsyncExitStack() as stack:
        name = await stack.enter_async_context(a_database_name(uri))

        async def start(
            *,
            within: AsyncExitStack = stack,
            ws: type[asyncio.Protocol] = WebSocketProtocol,
            **given: Any,
        ) -> Darkroom:
            port = given.get("port") or free_port()
            usual: dict[str, Any] = {
                "data_dir": folder,
                "mongodb_uri": SecretStr(uri),
                "mongodb_database": name,
                "limit": UNLIMITED,
            }
            settings = Settings(**{**usual, "port": port, **given})
            for_operators = within.enter_context(listen_for_operators(settings))
            app = create_app(settings, metrics_listener=for_operators)
            url = await within.enter_async_context(serving(app, port, ws=ws))
            return Darkroom(url, settings, within)

        yield start


@pytest.fixture(scope="session")
async def darkroom(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Darkroom]:
    """One Darkroom for all tests that need none of their own: every test is another viewer."""
    async with darkrooms(mongodb_uri, tmp_path_factory.mktemp("data")) as start:
        yield await start()


@pytest.fixture
async def start_darkroom(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[StartDarkroom]:
    """Darkrooms of this test's own, all on one database and one folder."""
    async with darkrooms(mongodb_uri, tmp_path) as start:
        yield start


@pytest.fixture
def client(darkroom: Darkroom) -> GraphQLClient:
    """A new viewer."""
    return darkroom.client()


@pytest.fixture
def shard_keys() -> ShardKeys:
    """What is objected to in the commands of the test so far."""
    return _shard_keys


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DARKROOM_") and not name.startswith("DARKROOM_TEST_"):
            monkeypatch.delenv(name)


_shard_keys = ShardKeys()


def pytest_configure() -> None:
    _restore_signals()
    _keep_files_in_memory()
    _write_plain_tracebacks()
    _try_the_same_examples()
    pymongo.monitoring.register(_shard_keys)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail the test during which a command was sent that goes to all shards, and is not to."""
    result = yield
    violations, _shard_keys.violations = _shard_keys.violations, []
    assert violations == []
    return result


def _restore_signals() -> None:
    """Give processes that tests start the default signals, also under nohup or as a background job.

    A child inherits an ignored signal, but of a handled one the default: this process goes on
    ignoring it.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _keep_files_in_memory() -> None:
    """Keep temporary files in memory, where there is room.

    On a disk, a database of a test's own takes five times as long to open: MongoDB waits for the
    disk at each of its files.
    """
    if MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > NEEDED_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage among what stays: looking through it takes two fifths of this time, and
    later some of each full collection. What tests leave is looked through a seventh as often as
    Python does by itself.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()


def _write_plain_tracebacks() -> None:
    """As the product does. With the values of variables, as structlog has it, one takes seconds."""
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*others, plain])


def _try_the_same_examples() -> None:
    """Let examples of properties depend neither on chance nor on how busy the machine is.

    `make resilience` tries others each time.
    """
    property_settings.register_profile(
        "darkroom",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=not THOROUGH,
    )
    property_settings.load_profile("darkroom")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = dealt(items, [item.nodeid for item in items], processes=processes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("skipped")
    reasons = [report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple)]
    for sentence in left_out(reasons):
        terminalreporter.line(sentence, yellow=True)
