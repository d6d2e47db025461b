"""Chosen outputs through the API: the output of a turn that the next turn continues from."""

from datetime import datetime

import pytest

from tests.api.test_plans import plan
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    DELETE_IMAGE,
    FOLLOW,
    codes,
    conversation_with,
    send,
    start,
    until_finished,
)

BOTH = ["local-silver", "local-ink"]
CHOOSE = """
mutation Choose($id: ID!, $chosen: Boolean) {
  chooseOutput(input: {outputId: $id, chosen: $chosen}) {
    output { id chosen image { id } }
    turn { id chosenOutput { id } outputs { id chosen } }
    userErrors { code message path }
  }
}
"""
READ = """
query Read($turn: ID!, $conversation: ID!) {
  turn(id: $turn) { chosenOutput { id image { id } } outputs { chosen } updatedAt }
  conversation(id: $conversation) {
    turns(first: 5) { nodes { chosenOutput { id } } }
    images(first: 10) { nodes { id output { chosen } } }
  }
}
"""


async def choose(client: GraphQLClient, output_id: str, **given: object) -> Data:
    payload: Data = (await client(CHOOSE, id=output_id, **given))["chooseOutput"]
    return payload


async def read(client: GraphQLClient, started: Data) -> Data:
    return await client(
        READ, turn=started["turn"]["id"], conversation=started["conversation"]["id"]
    )


async def test_the_chosen_output_of_a_turn_can_be_set_changed_and_removed(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    first, second = (output["id"] for output in started["turn"]["outputs"])

    chosen = await choose(client, first)
    moved = await choose(client, second)
    again = await choose(client, second, chosen=None)
    not_it = await choose(client, first, chosen=False)
    seen = await read(client, started)
    taken_back = await choose(client, second, chosen=False)

    assert chosen["userErrors"] == []
    assert chosen["output"]["chosen"]
    assert chosen["turn"]["chosenOutput"] == {"id": first}
    for payload in (moved, again, not_it):
        assert payload["turn"]["outputs"] == [
            {"id": first, "chosen": False},
            {"id": second, "chosen": True},
        ]
    assert seen["turn"]["chosenOutput"]["id"] == second
    assert seen["conversation"]["turns"]["nodes"] == [{"chosenOutput": {"id": second}}]
    strip = seen["conversation"]["images"]["nodes"]
    assert [one["output"]["chosen"] for one in strip] == [False, True]
    assert taken_back["turn"]["chosenOutput"] is None
    assert (await read(client, started))["turn"]["chosenOutput"] is None


async def test_the_next_turn_continues_from_the_chosen_output_only(client: GraphQLClient) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    conversation_id = started["conversation"]["id"]
    first, second = started["turn"]["outputs"]
    await choose(client, second["id"])

    planned = await plan(client, conversationId=conversation_id, selectedModels=BOTH)
    turn = (await send(client, conversation_id, selectedModels=BOTH))["turn"]
    named = await plan(client, conversationId=conversation_id, previousOutputIds=[first["id"]])

    wanted = [{"origin": "PREVIOUS_TURN", "image": {"id": second["image"]["id"]}}]
    assert turn["references"] == wanted
    assert [one["references"] for one in turn["outputs"]] == [wanted, wanted]
    assert [one["image"]["id"] for one in planned["references"]] == [second["image"]["id"]]
    assert [one["image"]["id"] for one in named["references"]] == [first["image"]["id"]]


async def test_after_a_failed_turn_the_chosen_output_of_an_earlier_turn_is_the_base(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    conversation_id = started["conversation"]["id"]
    chosen = started["turn"]["outputs"][1]
    await choose(client, chosen["id"])
    await until_finished(
        client, (await send(client, conversation_id, selectedModels=["rehearsal-fails"]))["turn"]
    )

    turn = (await send(client, conversation_id, selectedModels=["local-ink"]))["turn"]

    assert [one["image"]["id"] for one in turn["references"]] == [chosen["image"]["id"]]


async def test_a_chosen_output_whose_image_is_deleted_is_no_base(client: GraphQLClient) -> None:
    started = await conversation_with(client, selectedModels=BOTH)
    kept, deleted = started["turn"]["outputs"]
    await choose(client, deleted["id"])
    await client(DELETE_IMAGE, id=deleted["image"]["id"])

    turn = (await send(client, started["conversation"]["id"]))["turn"]

    assert [one["image"]["id"] for one in turn["references"]] == [kept["image"]["id"]]
    seen = (await read(client, started))["turn"]
    assert seen["chosenOutput"] == {"id": deleted["id"], "image": None}
    moved = await choose(client, kept["id"])
    assert moved["turn"]["chosenOutput"] == {"id": kept["id"]}


@pytest.mark.parametrize("model", ["rehearsal-fails", "rehearsal-hangs"])
async def test_an_output_without_an_image_cannot_be_chosen(
    client: GraphQLClient, model: str
) -> None:
    started = await start(client, selectedModels=[model])
    if model == "rehearsal-fails":
        await until_finished(client, started["turn"])
    output_id = started["turn"]["outputs"][0]["id"]

    refused = await choose(client, output_id)
    idle = await choose(client, output_id, chosen=False)

    assert codes(refused) == [("REFERENCE_NOT_READY", "outputId")]
    assert refused["turn"] is None
    assert idle["userErrors"] == []
    assert not idle["output"]["chosen"]


async def test_subscribers_receive_a_choice_with_the_outputs_that_changed(
    client: GraphQLClient,
) -> None:
    started = await conversation_with(client, selectedModels=[*BOTH, "rehearsal-fails"])
    first, second, _ = (output["id"] for output in started["turn"]["outputs"])
    follow = FOLLOW.replace("changedOutputs { id }", "changedOutputs { id chosen }")

    async with client.subscribe(follow, id=started["conversation"]["id"]) as updates:
        await updates.next()
        await choose(client, first)
        chosen = (await updates.next())["turnUpdated"]
        await choose(client, second)
        moved = (await updates.next())["turnUpdated"]

    assert chosen["changedOutputs"] == [{"id": first, "chosen": True}]
    assert moved["changedOutputs"] == [
        {"id": first, "chosen": False},
        {"id": second, "chosen": True},
    ]
    assert moved["turn"]["completedAt"] == started["turn"]["completedAt"]
    assert moved["turn"]["status"] == "COMPLETED"


async def test_only_the_owner_can_choose_an_output(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    started = await conversation_with(client)
    output_id = started["turn"]["outputs"][0]["id"]
    await choose(client, output_id)

    refused = [
        await choose(darkroom.client(), output_id, chosen=False),
        await choose(client, "nonsense"),
        await choose(client, output_id[:-1] + "9"),
        await choose(client, started["turn"]["id"]),
    ]
    stranger = await darkroom.anonymous().execute(CHOOSE, id=output_id, chosen=False)

    assert [codes(one) for one in refused] == [[("NOT_FOUND", "outputId")]] * 4
    assert stranger["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await read(client, started))["turn"]["chosenOutput"]["id"] == output_id


STATS = """
query Stats($days: Int) { viewer { modelStats(days: $days) {
  model { id label } asked delivered chosen winRate medianSeconds failureRate creditsPerChoice
  against { model { id } won lost }
} } }
"""


async def test_model_statistics_count_choices(darkroom: Darkroom, client: GraphQLClient) -> None:
    models = ["rehearsal-lands-last", "rehearsal-fails", "local-ink"]
    started = await conversation_with(client, selectedModels=models)
    last, _, ink = started["turn"]["outputs"]
    await conversation_with(client, selectedModels=["local-ink"])
    before = (await client(STATS))["viewer"]["modelStats"]
    await choose(client, ink["id"])
    await choose(client, last["id"])

    found = (await client(STATS, days=1))["viewer"]["modelStats"]

    assert [one["model"]["id"] for one in found] == ["local-ink", *sorted(models[:2])]
    ink_stats, failing, winning = found
    assert (ink_stats["asked"], ink_stats["delivered"], ink_stats["chosen"]) == (2, 2, 0)
    assert (ink_stats["winRate"], ink_stats["failureRate"]) == (0, 0)
    assert (failing["asked"], failing["delivered"], failing["failureRate"]) == (1, 0, 1)
    assert failing["medianSeconds"] is failing["winRate"] is failing["creditsPerChoice"] is None
    assert (winning["chosen"], winning["winRate"]) == (1, 1)
    assert winning["against"] == [{"model": {"id": "local-ink"}, "won": 1, "lost": 0}]
    assert ink_stats["against"] == [{"model": {"id": models[0]}, "won": 0, "lost": 1}]
    assert failing["against"] == before[0]["against"] == []
    charged = await client(
        "query($id: ID!) { node(id: $id) { ... on Output { "
        "creditsCharged startedAt completedAt } } }",
        id=last["id"],
    )
    assert winning["creditsPerChoice"] == charged["node"]["creditsCharged"]
    begun, ended = (
        datetime.fromisoformat(charged["node"][name]) for name in ("startedAt", "completedAt")
    )
    seconds = (ended - begun).total_seconds()
    assert winning["medianSeconds"] == pytest.approx(seconds, rel=0.03)
    assert [(one["chosen"], one["winRate"]) for one in before] == [(0, None)] * 3
    assert (await darkroom.client()(STATS))["viewer"]["modelStats"] == []
    stranger = await darkroom.anonymous().execute(STATS)
    assert stranger["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("days", [0, -1, 367])
async def test_model_statistics_cover_at_most_a_year(client: GraphQLClient, days: int) -> None:
    answer = await client.execute(STATS, days=days)

    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert (await client(STATS, days=None))["viewer"]["modelStats"] == []
