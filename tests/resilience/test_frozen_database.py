"""A frozen or unavailable database: sockets stay open, responses come in time, outputs continue."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from uuid import uuid4

import pytest

from runtime.local_mongod import Mongod
from tests.api.test_outputs import CANCEL, RETRY
from tests.clients import Data, GraphQLClient, Socket, connect_to
from tests.operations import DELETE, FINISHED, FOLLOW, SEND, START, start, until_finished
from tests.resilience.processes import away, frozen, wait_until_answering
from tests.resilience.scale import THOROUGH, WHY_NOT
from tests.resilience.sites import Arrangement, Site, open_site
from tests.waits import eventually

SMALL = {"width": 256, "height": 256, "previews": 1}
FROZEN_SECONDS = 6.0
AWAY_SECONDS = 60.0 if THOROUGH else 6.0
LONG_FROZEN_SECONDS = 12.0
ANSWER_SECONDS = 10.5 if THOROUGH else 20.0
"""Ten seconds, and what a machine needs that runs this alone; several tests at once need longer."""
RESUMED_SECONDS = 15.0


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    arrangement = Arrangement(apis=1, fal=True)
    async with open_site(tmp_path_factory.mktemp("frozen"), arrangement) as site:
        await wait_until_answering(site.client(site.apis[0]))
        yield site


async def test_a_frozen_database_closes_no_socket_and_everything_resumes_automatically(
    site: Site,
) -> None:
    client = site.client(site.apis[0])
    payload = await start(client, selectedModels=["rehearsal-lands-last"], options=SMALL)
    async with client.subscribe(FOLLOW, id=payload["conversation"]["id"]) as updates:
        await updates.until(_is_running)

        async with frozen(site.mongod):
            answers = [asyncio.create_task(_timed_start(client)) for _ in range(3)]
            await asyncio.wait(answers, timeout=FROZEN_SECONDS)
        back = monotonic()
        seen = await asyncio.wait_for(updates.until(_has_finished), RESUMED_SECONDS)

    assert seen[-1]["turnUpdated"]["turn"]["status"] == "COMPLETED"
    assert monotonic() - back < RESUMED_SECONDS
    for answer, seconds in await asyncio.gather(*answers):
        assert seconds < ANSWER_SECONDS
        if "errors" in answer:
            _assert_overloaded(answer)
        else:
            await until_finished(client, answer["data"]["startConversation"]["turn"])


@pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)
async def test_a_mutation_is_refused_in_time_while_the_database_does_not_answer(site: Site) -> None:
    client = site.client(site.apis[0])
    stranger = site.client(site.apis[0], f"stranger {uuid4().hex}")
    await start(client, options=SMALL)

    async with frozen(site.mongod):
        answers = [asyncio.create_task(_timed_start(one)) for one in (client, stranger)]
        await asyncio.wait(answers, timeout=LONG_FROZEN_SECONDS)

    for answer, seconds in await asyncio.gather(*answers):
        assert seconds < ANSWER_SECONDS
        _assert_overloaded(answer)

    async def works_again() -> bool:
        return "errors" not in (await _timed_start(client))[0]

    await eventually(works_again, within=RESUMED_SECONDS, what="mutations are taken again")


async def test_a_client_that_connects_while_the_database_is_unavailable_can_reconnect(
    site: Site,
) -> None:
    client = site.client(site.apis[0])
    payload = await start(client, selectedModels=["rehearsal-lands-last"], options=SMALL)

    async with away(site.mongod), client.socket() as socket, connect_to(client.url) as other:
        updates = await socket.subscribe(FOLLOW, id=payload["conversation"]["id"])
        stranger = Socket(other)
        token = site.token(f"stranger {uuid4().hex}")
        await stranger.send(type="connection_init", payload={"authorization": f"Bearer {token}"})
        closed_with = await stranger.closed_with()
        # Longer than a command waits: the subscription has not been ended meanwhile.
        await site.mongod.start()
        seen = await updates.until(_has_finished)

    assert closed_with == 1013
    assert seen[-1]["turnUpdated"]["turn"]["status"] == "COMPLETED"


async def test_during_an_outage_of_the_database_mutations_are_refused_and_deliveries_kept(
    site: Site,
) -> None:
    client = site.client(site.apis[0])
    message = f"A boat, {uuid4().hex} [fal seconds=3]"
    payload = await start(
        client, userMessage=message, selectedModels=["img-flux-2-max"], options={"previews": 0}
    )
    turn_id, output_id = payload["turn"]["id"], payload["turn"]["outputs"][0]["id"]
    await eventually(lambda: _is_bought(site, message), within=10, what="the vendor has the job")
    mutations = (
        (START, {"userMessage": "A boat", "idempotencyKey": "away"}),
        (SEND, {"conversationId": payload["conversation"]["id"], "userMessage": "Sepia"}),
        (RETRY, {"outputId": output_id}),
        (CANCEL, {"id": output_id}),
        (DELETE, {"id": payload["conversation"]["id"]}),
    )

    timed: list[tuple[Data, float]] = []
    async with away(site.mongod):
        gone = monotonic()
        while monotonic() - gone < AWAY_SECONDS:
            timed += await asyncio.gather(*(_timed(client, *one) for one in mutations))
    back = monotonic()

    async def works_again() -> bool:
        return "errors" not in (await _timed_start(client))[0]

    await eventually(works_again, within=RESUMED_SECONDS, what="mutations are taken again")
    finished = await asyncio.wait_for(until_finished(client, payload["turn"]), RESUMED_SECONDS)
    assert monotonic() - back < RESUMED_SECONDS
    for answer, seconds in timed:
        assert seconds < ANSWER_SECONDS
        _assert_overloaded(answer)
    assert (finished["id"], finished["status"]) == (turn_id, "COMPLETED")
    assert site.vendor is not None
    assert [job["prompt"] for job in await site.vendor.bill()].count(message) == 1


async def _is_bought(site: Site, message: str) -> bool:
    assert site.vendor is not None
    return any(job["prompt"] == message for job in await site.vendor.bill())


async def _timed(client: GraphQLClient, query: str, input: Data) -> tuple[Data, float]:
    asked = monotonic()
    variables = input if "id" in input else {"input": input}
    answer = await client.execute(query, **variables)
    return answer, monotonic() - asked


def _assert_overloaded(answer: Data) -> None:
    extensions = answer["errors"][0]["extensions"]
    assert extensions["code"] == "OVERLOADED"
    assert extensions["retryAfterSeconds"] >= 1


async def _timed_start(client: GraphQLClient) -> tuple[Data, float]:
    asked = monotonic()
    wanted = {"userMessage": "A boat", "selectedModels": ["local-silver"], "options": SMALL}
    answer = await client.execute(START, input=wanted)
    return answer, monotonic() - asked


def _is_running(data: Data) -> bool:
    return bool(data["turnUpdated"]["turn"]["outputs"][-1]["progress"])


def _has_finished(data: Data) -> bool:
    return data["turnUpdated"]["turn"]["status"] in FINISHED


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(frozen, id="frozen"),
        pytest.param(away, id="away", marks=pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)),
    ],
)
async def test_a_process_stops_in_order_while_the_database_does_not_answer(
    site: Site, gone: Callable[[Mongod], AbstractAsyncContextManager[None]]
) -> None:
    api = site.apis[0]
    client = site.client(api)
    await start(client, selectedModels=["rehearsal-lands-last"], options=SMALL)

    async with gone(site.mongod), client.socket() as socket:
        asking = asyncio.create_task(_timed_start(client))
        await asyncio.sleep(0.5)
        exit_code = await api.terminate()
        closed_with = await socket.closed_with()
        await asyncio.wait([asking])
    await api.start()

    assert (exit_code, closed_with) == (0, 1012)
