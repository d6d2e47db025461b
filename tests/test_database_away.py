"""A frozen or unavailable database: while a process starts, and for requests meanwhile."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

import httpx2
import pytest
from starlette.types import Message

from domain.errors import Overloaded
from runtime.lifecycle import DATABASE_AWAY, CannotStart, wait_for_database
from runtime.local_mongod import Mongod
from serve import _explain_startup_failure
from settings import Limits
from tests.conftest import Darkroom, darkrooms
from tests.operations import START
from tests.resilience.processes import away, frozen
from tests.serving import free_port
from tests.test_serve import serve
from tests.tools import need_mongod
from tests.waits import PATIENCE_SECONDS, START_SECONDS

SLOW_SECONDS = 5.0
"""Of an operation, instead of ten."""
FEW_SECONDS = 2.5
"""What a busy machine needs. A command of the database would end only after eight seconds."""
SHORT = {"query": "{ __typename }"}
AT_ONCE_SECONDS = 1.0
REQUESTS_MEANWHILE = 3
Ask: TypeAlias = Callable[[], Coroutine[Any, Any, httpx2.Response]]


@pytest.fixture(scope="module")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mongod]:
    mongod = Mongod(
        tmp_path_factory.mktemp("mongod"), binary=need_mongod(), preferred_port=free_port()
    )
    await mongod.start()
    yield mongod
    await mongod.stop()


@pytest.mark.parametrize("unavailable", [frozen, away], ids=["frozen", "away"])
async def test_a_starting_process_waits_for_the_database(
    mongod: Mongod, tmp_path_factory: pytest.TempPathFactory, unavailable: object
) -> None:
    folder, uri = tmp_path_factory.mktemp("data"), mongod.uri
    assert callable(unavailable)
    context = unavailable(mongod)
    await context.__aenter__()
    try:
        async with serve(folder, DARKROOM_MONGODB_URI=uri) as served:
            assert served.process.stderr is not None
            async with asyncio.timeout(START_SECONDS):
                line = await served.process.stderr.readline()
            assert b"waiting for the database" in line
            await context.__aexit__(None, None, None)
            context = None
            await served.until("Darkroom is ready")
            await served.end(signal.SIGTERM)
            assert "Traceback" not in served.errors
    finally:
        if context is not None:
            await context.__aexit__(None, None, None)


async def test_a_starting_process_waits_up_to_a_limit(
    mongod: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, uri = tmp_path_factory.mktemp("data"), mongod.uri

    async with (
        frozen(mongod),
        serve(folder, DARKROOM_MONGODB_URI=uri, DARKROOM_START_SECONDS="0.5") as served,
    ):
        assert await served.end() == 2

    assert "does not answer (0.5 seconds, DARKROOM_START_SECONDS)" in served.errors
    assert len(served.errors.splitlines()) == 1


async def test_a_wrong_password_for_the_database_is_named_and_not_shown(mongod: Mongod) -> None:
    with pytest.raises(CannotStart) as refused:
        await wait_for_database(mongod.uri.replace("//", "//ana:secret@"), 60)

    assert "does not accept the user name or the password" in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_database_lost_during_startup_is_reported_in_a_message() -> None:
    sent: list[Message] = []

    async def app(scope: object, receive: object, send: object) -> None:
        assert callable(send)
        try:
            raise Overloaded
        except Overloaded:
            await send({"type": "lifespan.startup.failed", "message": "Traceback …"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    await _explain_startup_failure(app)({"type": "lifespan"}, receive, send)

    assert sent == [{"type": "lifespan.startup.failed", "message": DATABASE_AWAY}]


async def test_while_the_database_is_frozen_every_request_is_answered_with_503_in_time(
    mongod: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> None:
    limit = Limits(operation_seconds=SLOW_SECONDS)
    async with darkrooms(mongod.uri, tmp_path_factory.mktemp("data")) as start:
        darkroom = await start(limit=limit)
        client, others = darkroom.client("ana"), darkroom.client("bob")
        images = "{ viewer { images { nodes { id } } } }"
        for one in (client, others):
            await one(images)
        wanted = {"userMessage": "A boat", "selectedModels": ["local-silver"]}
        mutation = {"query": START, "variables": {"input": wanted}}

        async with frozen(mongod):
            began = monotonic()
            answers = await asyncio.gather(
                client.post(mutation), others.post(mutation), client.post({"query": images})
            )
            seconds = monotonic() - began

    for answer in answers:
        assert answer.status_code == 503, answer.text
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "OVERLOADED"
        assert error["extensions"]["retryAfterSeconds"] == int(answer.headers["retry-after"])
    assert seconds < SLOW_SECONDS + FEW_SECONDS


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_who_leaves_while_an_operation_waits_for_room_gives_the_place_back(
    mongod: Mongod, tmp_path_factory: pytest.TempPathFactory, method: str
) -> None:
    # The first operation has to run until the end, on a busy machine too.
    limit = Limits(process_requests_in_flight=1, operation_seconds=60.0)
    async with darkrooms(mongod.uri, tmp_path_factory.mktemp("data")) as start:
        darkroom = await start(limit=limit)
        ana, bob, cy = (darkroom.client(viewer) for viewer in ("ana", "bob", "cy"))
        for one in (ana, bob, cy):
            await one("{ viewer { id } }")
        if method == "GET":
            ask = partial(bob.http.get, "/graphql", params=SHORT)
        else:
            ask = partial(bob.post, SHORT)

        async with frozen(mongod):
            images = {"query": "{ viewer { images { nodes { id } } } }"}
            running = asyncio.create_task(ana.post(images))
            await _cancel(await _ask_until_one_waits(darkroom, partial(cy.post, SHORT)))
            waiting = await _ask_until_one_waits(darkroom, ask)
            assert (await cy.post(SHORT)).status_code == 503
            await _cancel(waiting)
            waiting = await _ask_until_one_waits(darkroom, partial(cy.post, SHORT))
            assert not running.done()

        assert (await running).status_code == 200
        assert (await waiting).status_code == 200


async def _ask_until_one_waits(darkroom: Darkroom, ask: Ask) -> asyncio.Task[httpx2.Response]:
    """Return the first operation that is neither answered nor refused at once, while other requests
    are answered: these tests and the API may both stand still for a second.
    """
    others = darkroom.anonymous().http
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            asking = asyncio.create_task(ask())
            await asyncio.wait([asking], timeout=AT_ONCE_SECONDS)
            for _ in range(REQUESTS_MEANWHILE):
                await others.get("/healthz")
            if not asking.done():
                return asking


async def _cancel(asking: asyncio.Task[httpx2.Response]) -> None:
    """Close its connection."""
    asking.cancel()
    await asyncio.wait([asking])
