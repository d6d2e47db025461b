"""Fairness: a viewer with many outputs does not delay those of another."""

import asyncio

from tests.clients import Data, GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import SMALL, start, until_finished

AT_WORK = "{ viewer { turnsInProgress { outputs { id status } } } }"
CROWD = 40
AT_ONCE = 8
"""The starts of one viewer are written one after another: on a busy machine, the time of the last
of 40 would end.
"""
HALF = 25
"""Of the places that rehearsals have."""
SOON_SECONDS = 5.0


async def statuses(client: GraphQLClient) -> list[str]:
    turns = (await client(AT_WORK))["viewer"]["turnsInProgress"]
    return sorted(output["status"] for turn in turns for output in turn["outputs"])


async def until_generating(client: GraphQLClient, count: int) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        # The API returns outputs of many conversations only on request.
        while (await statuses(client)).count("GENERATING") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_viewer_with_many_outputs_leaves_capacity_to_others(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    greedy, modest = darkroom.client(), darkroom.client()
    for _ in range(CROWD // AT_ONCE):
        await asyncio.gather(
            *(start(greedy, selectedModels=["rehearsal-hangs"]) for _ in range(AT_ONCE))
        )
    await until_generating(greedy, HALF)

    await start(modest, selectedModels=["rehearsal-hangs"])

    await until_generating(modest, 1)
    assert (await statuses(greedy)).count("GENERATING") == HALF


async def test_an_output_that_waits_starts_as_soon_as_there_is_capacity(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    payloads: list[Data] = await asyncio.gather(
        *(start(client, selectedModels=["local-silver"], options=SMALL) for _ in range(12))
    )

    turns = await asyncio.gather(*(until_finished(client, payload["turn"]) for payload in payloads))

    assert {turn["status"] for turn in turns} == {"COMPLETED"}
    assert await statuses(client) == []
