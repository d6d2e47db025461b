"""Two processes on one database: each shows, takes over and finishes what the other has begun."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from uuid import uuid4

import pytest

from domain.execution.leases import LEASE
from tests.clients import Data, GraphQLClient
from tests.operations import DELETE, FINISHED, FOLLOW, followed, send, start, until_finished
from tests.resilience.evidence import History, read_stored
from tests.resilience.history import violations
from tests.resilience.processes import wait_until_answering
from tests.resilience.scale import THOROUGH
from tests.resilience.sites import Site, open_site
from tests.waits import eventually

SMALL = {"width": 256, "height": 256, "previews": 1}
SWEEP_SECONDS = 5.0 if THOROUGH else 45.0
"""Five, where nothing else runs. A machine that runs several tests at once may take long to notice
that it has reached the database without a gap.
"""
STOP_SECONDS = 10.0 if THOROUGH else 40.0
FINISH_SECONDS = 60.0


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("two"), apis=2) as site:
        for api in site.apis:
            await wait_until_answering(site.client(api))
        yield site


@pytest.fixture
async def both_up(site: Site) -> Site:
    for api in site.apis:
        if api.pid is None:
            await api.start()
    return site


async def test_a_turn_started_at_one_process_can_be_subscribed_to_at_another(both_up: Site) -> None:
    here, there = map(both_up.client, both_up.apis)

    payload = await a_turn_of_two(here)
    seen = await followed(there, payload["turn"], after=payload["cursor"])

    outputs = [update["turn"]["outputs"] for update in seen]
    assert any(first["images"] and not last["images"] for first, last in outputs)
    assert any(last["progress"] for _, last in outputs)
    assert all(len(output["images"]) == 1 for output in outputs[-1])
    again = await followed(here, payload["turn"], after=seen[0]["cursor"])
    assert again[-1]["turn"] == seen[-1]["turn"] | {"outputs": again[-1]["turn"]["outputs"]}


async def test_a_client_that_reconnects_during_a_turn_receives_the_current_state_at_once(
    both_up: Site,
) -> None:
    here, there = map(both_up.client, both_up.apis)
    payload = await start(here, selectedModels=["local-silver", "rehearsal-hangs"], options=SMALL)
    async with here.subscribe(FOLLOW, id=payload["conversation"]["id"]) as page:
        before = await page.until(
            lambda data: bool(data["turnUpdated"]["turn"]["outputs"][0]["images"])
        )

    # Nothing happens any more that would be a reason to send something.
    async with there.subscribe(FOLLOW, id=payload["conversation"]["id"]) as page:
        present = (await page.next())["turnUpdated"]

    landed, running = present["turn"]["outputs"]
    assert (
        landed["images"][0]["id"]
        == (before[-1]["turnUpdated"]["turn"]["outputs"][0]["images"][0]["id"])
    )
    assert running["status"] == "GENERATING"
    await here.execute(DELETE, id=payload["conversation"]["id"])


async def test_a_stopping_process_releases_its_outputs_and_another_finishes_them_soon(
    both_up: Site,
) -> None:
    stopped, other = both_up.apis
    here, there = both_up.client(stopped), both_up.client(other)
    payload = await a_turn_of_two(here)
    async with (
        here.subscribe(FOLLOW, id=payload["conversation"]["id"]) as cut,
        there.subscribe(FOLLOW, id=payload["conversation"]["id"]) as kept,
    ):
        await cut.until(_is_running)

        asked = monotonic()
        code = await stopped.terminate()
        stopped_after = monotonic() - asked
        released = await _last_output(both_up, payload["turn"])
        closed_with = await cut.socket.closed_with()
        seen = await kept.until(_has_finished)

    assert code == 0
    assert stopped_after < STOP_SECONDS
    assert closed_with == 1012
    assert seen[-1]["turnUpdated"]["turn"]["status"] == "COMPLETED"
    assert released["leaseUntil"] is None or released["fence"] == 2, "released, or taken over"
    assert await _fences(both_up, payload["turn"]) == [1, 2]


async def test_another_process_continues_a_turn_when_its_own_is_killed(both_up: Site) -> None:
    killed, other = both_up.apis
    here, there = both_up.client(killed), both_up.client(other)
    payload = await a_turn_of_two(here)
    async with there.subscribe(
        FOLLOW, id=payload["conversation"]["id"], after=payload["cursor"]
    ) as updates:
        await updates.until(_is_running)
        before = await _fences(both_up, payload["turn"])

        await killed.kill()
        dead_since = monotonic()

        async def taken_over() -> bool:
            return (await _fences(both_up, payload["turn"]))[1] > before[1]

        await eventually(
            taken_over,
            within=LEASE.total_seconds() + SWEEP_SECONDS,
            what="the other process has taken it over",
        )
        taken_over_after = monotonic() - dead_since
        seen = await asyncio.wait_for(updates.until(_has_finished), FINISH_SECONDS)

    first, last = seen[-1]["turnUpdated"]["turn"]["outputs"]
    assert (first["status"], last["status"]) == ("COMPLETED", "COMPLETED")
    assert len(last["images"]) == 1
    assert taken_over_after > LEASE.total_seconds() / 2, "the lease of a living process was broken"
    assert await _fences(both_up, payload["turn"]) == [before[0], before[1] + 1]
    stored = await read_stored(both_up.documents, both_up.data_dir)
    assert violations(History([], [], stored)) == []


async def test_an_edit_at_one_process_continues_from_an_image_delivered_at_another(
    both_up: Site,
) -> None:
    here, there = map(both_up.client, both_up.apis)
    payload = await start(here, userMessage=f"A boat, {uuid4().hex}", options=SMALL)
    turn = await until_finished(here, payload["turn"])

    edit = await send(
        there, payload["conversation"]["id"], userMessage=f"Sepia, {uuid4().hex}", options=SMALL
    )

    assert edit["turn"]["turnIndex"] == 1
    assert [reference["image"]["id"] for reference in edit["turn"]["references"]] == [
        turn["outputs"][0]["images"][0]["id"]
    ]
    finished = await until_finished(here, edit["turn"])
    assert finished["status"] == "COMPLETED"


async def a_turn_of_two(client: GraphQLClient) -> Data:
    """One model lands at once, the other after four seconds. No message comes twice."""
    models = ["local-silver", "rehearsal-lands-last"]
    message = f"A boat, {uuid4().hex}"
    return await start(client, userMessage=message, selectedModels=models, options=SMALL)


def _is_running(data: Data) -> bool:
    return bool(data["turnUpdated"]["turn"]["outputs"][-1]["progress"])


def _has_finished(data: Data) -> bool:
    return data["turnUpdated"]["turn"]["status"] in FINISHED


async def _fences(site: Site, turn: Data) -> list[int]:
    return [output["fence"] for output in await _stored_outputs(site, turn)]


async def _last_output(site: Site, turn: Data) -> Data:
    return (await _stored_outputs(site, turn))[-1]


async def _stored_outputs(site: Site, turn: Data) -> list[Data]:
    found = await site.documents["turns"].find_one({"_id": turn["id"]})
    assert found is not None
    outputs: list[Data] = found["outputs"]
    return outputs
