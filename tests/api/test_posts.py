"""Posts through the API: what S2 requires of the backend, with one or more tests for each
requirement.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.posts import (
    CANCEL_POST,
    DELETE_POST,
    FOLLOW_POST,
    PLAN_POST,
    POST,
    READ_POST,
    ended,
    followed_post,
    generate,
    generate_or_refuse,
    read_post,
    regenerate,
    regenerate_or_refuse,
)
from tests.clients import Data, GraphQLClient, connect_to
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE_IMAGE,
    PROMPTS,
    SMALL,
    codes,
    conversation_with,
    start,
    until_finished,
)

HANGS = "rehearsal-caption-hangs"
CREDITS = "query { viewer { credits { balance reserved } limits { activeOutputs } } }"
UNKNOWN = "post_00000000000000000000000000"


async def credits_of(client: GraphQLClient) -> tuple[int, int, int]:
    """Balance, reserved, and active outputs."""
    viewer = (await client(CREDITS))["viewer"]
    return (*viewer["credits"].values(), viewer["limits"]["activeOutputs"])


def statuses(post: Data) -> list[str]:
    return [output["status"] for output in post["outputs"]]


def moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


async def writing_post(client: GraphQLClient, **input: Any) -> Data:
    """A post in the middle of its caption, where it stays."""
    post = await generate(client, captionModel=HANGS, **input)
    async with client.subscribe(FOLLOW_POST, id=post["id"]) as updates:
        seen = await updates.until(lambda data: data["postUpdated"]["caption"] != "")
    half: Data = seen[-1]["postUpdated"]
    return half


# --- a caption, then images


async def test_the_mutation_returns_the_id_at_once(client: GraphQLClient) -> None:
    """S2.2"""
    post = await generate(client, captionModel=HANGS)

    assert post["id"].startswith("post_")
    assert (post["status"], post["caption"], statuses(post)) == (
        "GENERATING_CAPTION",
        "",
        ["QUEUED"],
    )


async def test_a_post_is_a_caption_followed_by_images_one_by_one(
    client: GraphQLClient,
) -> None:
    """S2.1, S2.3, S2.4, S2.5, S2.6, S2.7, S2.8, S2.22"""
    models = ["rehearsal-lands-last", "local-silver", "rehearsal-fails"]
    post = await generate(client, selectedModels=models)

    states = await followed_post(client, post)

    steps = ["GENERATING_CAPTION", "GENERATING_IMAGES", "GENERATED"]
    order = [state["status"] for state in states]
    assert order == sorted(order, key=steps.index)
    assert set(order) == set(steps)
    texts = [state["caption"] for state in states]
    assert texts == sorted(texts, key=len)
    assert all(texts[-1].startswith(text) for text in texts)
    for state in states:
        if set(statuses(state)) != {"QUEUED"}:
            assert state["caption"] == texts[-1] == "Our new lavender soap."
    pending = [len(state["pendingModels"]) for state in states]
    assert pending == sorted(pending, reverse=True)
    assert (pending[0], pending[-1]) == (3, 0)
    changed = [moment(state["updatedAt"]) for state in states]
    assert changed == sorted(changed)

    last = states[-1]
    assert (last["status"], last["totalModels"]) == ("GENERATED", 3)
    assert statuses(last) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert last["captionModel"] == {"id": "local-writer"}
    assert last["outputs"][2]["error"] == {"code": "PROVIDER_UNAVAILABLE"}
    assert last["error"] is None
    assert last["image"]["id"] == last["outputs"][1]["image"]["id"]
    assert (last["creditsReserved"], last["creditsCharged"]) == (0, 1 + 2 + 2)
    assert last["completedAt"] is not None


async def test_a_caption_is_sent_while_it_is_written_at_most_four_times_a_second(
    client: GraphQLClient,
) -> None:
    """S2.1, S2.13; issue 13, point 3"""
    message = "Our new lavender soap, made by two sisters in a small town by the sea in Portugal"
    states = await followed_post(client, await generate(client, userMessage=message))

    parts = [one["caption"] for one in states if one["status"] == "GENERATING_CAPTION"]
    different = {part for part in parts if part}
    assert len(different) >= 2
    assert all(f"{message}.".startswith(part) for part in parts)
    written = next(one for one in states if one["status"] != "GENERATING_CAPTION")
    took = moment(written["updatedAt"]) - moment(written["createdAt"])
    assert len(different) <= 1 + 4 * took.total_seconds()


async def test_images_are_made_from_the_message_and_the_caption(client: GraphQLClient) -> None:
    message = "Write a post about our new lavender soap"

    post = await ended(client, await generate(client, userMessage=message))

    assert post["caption"] == "Our new lavender soap."
    image = await client(
        "query($id: ID!) { image(id: $id) { prompt origin } }", id=post["image"]["id"]
    )
    assert image["image"]["origin"] == "POST"
    assert image["image"]["prompt"].startswith(message)


async def test_the_message_is_kept_as_a_prompt(client: GraphQLClient) -> None:
    """S2.9"""
    await generate(client, captionModel=HANGS)

    nodes = (await client(PROMPTS))["viewer"]["prompts"]["nodes"]

    assert [(node["text"], node["uses"]) for node in nodes] == [("Our new lavender soap", 1)]


async def test_omitted_options_have_defaults(client: GraphQLClient) -> None:
    """S2.10, S2.11"""
    wanted = {"userMessage": "Soap", "options": SMALL}
    for left_out in ({}, {"selectedModels": None, "captionModel": None, "captionOptions": None}):
        payload = await generate_or_refuse(client, **{**wanted, "selectedModels": None, **left_out})
        post = payload["post"]
        assert post["selectedModels"] == [{"id": "local-silver"}]
        assert post["captionModel"] == {"id": "local-writer"}
        assert post["captionOptions"] == {
            "language": None,
            "maxLength": 600,
            "hashtags": 0,
            "tone": None,
        }
        assert (post["aspectRatio"], post["resolution"]) == ("1:1", "ONE_K")

    refused = await generate_or_refuse(client, selectedModels=[])
    assert codes(refused) == [("NO_MODELS", "selectedModels")]


async def test_a_caption_has_the_requested_language_length_tone_and_hashtags(
    client: GraphQLClient,
) -> None:
    """Issue 13, point 4"""
    options = {"language": "pt_br", "maxLength": 60, "hashtags": 2, "tone": " animado "}
    message = "Crie um post sobre o nosso café gelado"
    post = await ended(client, await generate(client, userMessage=message, captionOptions=options))

    assert post["caption"] == "O nosso café gelado!\n#café #gelado"
    assert post["captionOptions"] == {**options, "language": "pt-BR", "tone": "animado"}


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"maxLength": 49}, ["maxLength"]),
        ({"maxLength": 2201, "hashtags": -1}, ["maxLength", "hashtags"]),
        ({"hashtags": 2**40}, ["hashtags"]),
        ({"tone": "t" * 61, "language": "english"}, ["tone", "language"]),
        ({"language": "de"}, ["language"]),
    ],
)
async def test_options_of_a_caption_have_limits(
    client: GraphQLClient, options: Data, paths: list[str]
) -> None:
    refused = await generate_or_refuse(client, captionOptions=options)

    assert refused["post"] is None
    assert codes(refused) == [
        ("CAPTION_OPTIONS_INVALID", f"captionOptions.{path}") for path in paths
    ]


async def test_all_user_errors_of_a_post_are_returned_at_once(client: GraphQLClient) -> None:
    refused = await generate_or_refuse(
        client,
        userMessage=" ",
        selectedModels=["nothing"],
        captionModel="nobody",
        captionOptions={"hashtags": 11},
        manualReferenceIds=["img_00000000000000000000000000"],
    )

    assert sorted(codes(refused)) == [
        ("CAPTION_OPTIONS_INVALID", "captionOptions.hashtags"),
        ("NOT_FOUND", "manualReferenceIds.0"),
        ("PROMPT_EMPTY", "userMessage"),
        ("UNKNOWN_MODEL", "captionModel"),
        ("UNKNOWN_MODEL", "selectedModels.0"),
    ]
    unavailable = await generate_or_refuse(client, captionModel="openai/gpt-4.1")
    assert codes(unavailable) == [("MODEL_UNAVAILABLE", "captionModel")]


LABELS = {
    "gemini-2.5-flash-image": "Nano Banana",
    "gemini-3-pro-image-preview": "Nano Banana Pro",
    "bytedance-seed/seedream-4.5": "Seedream v4.5",
    "black-forest-labs/flux.2-flex": "Flux 2 Flex",
    "openai/gpt-5-image": "GPT-5 Image",
}


async def test_a_post_whose_caption_is_being_written_names_its_pending_models(
    client: GraphQLClient,
) -> None:
    """S2.13, S2.14, S2.15"""
    post = await writing_post(client, selectedModels=["local-silver", "rehearsal-fails"])

    data = await client(
        "query($id: ID!) { post(id: $id) { status aspectRatio pendingModels { label } } }",
        id=post["id"],
    )

    assert data["post"] == {
        "status": "GENERATING_CAPTION",
        "aspectRatio": "1:1",
        "pendingModels": [{"label": "Silver"}, {"label": "Fails"}],
    }
    for alias, label in LABELS.items():
        shown = await client("query($id: ID!) { model(id: $id) { label } }", id=alias)
        assert shown["model"] == {"label": label}


async def test_the_caption_and_the_first_image_arrive_in_time(client: GraphQLClient) -> None:
    """S2.16"""
    states = await followed_post(client, await generate(client))

    last = states[-1]
    (output,) = last["outputs"]
    asked, begun, ended_at = map(
        moment, (last["createdAt"], output["startedAt"], last["completedAt"])
    )
    assert begun - asked < timedelta(seconds=10)
    assert ended_at - begun < timedelta(seconds=20)


# --- away and back


async def test_a_post_finishes_without_subscribers(client: GraphQLClient) -> None:
    """S2.17"""
    post = await generate(client)
    async with connect_to(client.url) as connection:
        assert connection.close_code is None  # and leave before anything was said

    states = await followed_post(client, post)

    assert states[-1]["status"] == "GENERATED"


async def test_a_late_subscriber_receives_the_current_state_first(
    client: GraphQLClient,
) -> None:
    """S2.19, S2.20, S2.22"""
    half = await writing_post(client)
    assert (half["status"], half["caption"]) == ("GENERATING_CAPTION", "Our new lav")

    for _ in range(2):
        async with client.subscribe(FOLLOW_POST, id=half["id"]) as updates:
            first = (await updates.next())["postUpdated"]
            # The line is cut, not closed.
            updates.socket.connection.transport.abort()
        assert (first["status"], first["caption"]) == (half["status"], half["caption"])
    assert (await read_post(client, half))["caption"] == half["caption"]

    async with client.subscribe(FOLLOW_POST, id=half["id"]) as updates:
        await updates.next()
        await client(CANCEL_POST, id=half["id"])
        seen = await updates.until(lambda data: data["postUpdated"]["status"] == "CANCELLED")
    assert seen[-1]["postUpdated"]["completedAt"] is not None


async def test_a_foreign_post_is_not_found(darkroom: Darkroom, client: GraphQLClient) -> None:
    """S2.7, S2.9"""
    post = await generate(client, captionModel=HANGS)
    other = darkroom.client()
    output = post["outputs"][0]["id"]

    nobodys = await darkroom.anonymous().execute(READ_POST, id=post["id"])
    assert nobodys["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert (await other(READ_POST, id=post["id"]))["post"] is None
    nodes = await other("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[post["id"], output])
    assert nodes["nodes"] == [None, None]
    for name in (post["id"], UNKNOWN, "post_nonsense"):
        cancelled = (await other(CANCEL_POST, id=name))["cancelPost"]
        deleted = (await other(DELETE_POST, id=name))["deletePost"]
        again = await regenerate_or_refuse(other, {"id": name})
        assert codes(cancelled) == codes(deleted) == codes(again) == [("NOT_FOUND", "postId")]
        async with other.subscribe(FOLLOW_POST, id=name) as updates:
            assert "NOT_FOUND" in str(await updates.message())
    assert (await read_post(client, post))["status"] == "GENERATING_CAPTION"


# --- what goes wrong


async def test_the_caption_stays_if_all_images_fail(client: GraphQLClient) -> None:
    """S2.18"""
    before = await credits_of(client)
    models = ["rehearsal-fails", "rehearsal-refuses"]

    post = await ended(client, await generate(client, selectedModels=models))

    assert (post["status"], post["caption"]) == ("FAILED", "Our new lavender soap.")
    assert post["error"]["code"] == "PROVIDER_UNAVAILABLE"
    assert post["captionError"] is None
    assert (post["image"], post["creditsCharged"]) == (None, 1)
    assert await credits_of(client) == (before[0] - 1, 0, 0)


@pytest.mark.parametrize(
    ("writer", "code"),
    [
        ("rehearsal-caption-fails", "PROVIDER_UNAVAILABLE"),
        ("rehearsal-caption-refuses", "CONTENT_REFUSED"),
    ],
)
async def test_without_a_caption_no_images_are_made(
    client: GraphQLClient, writer: str, code: str
) -> None:
    """S2.21"""
    before = await credits_of(client)
    post = await generate(client, captionModel=writer, selectedModels=["local-silver", "local-ink"])
    assert post["creditsReserved"] == 1 + 2 + 2

    post = await ended(client, post)

    assert (post["status"], statuses(post)) == ("FAILED", ["CANCELLED", "CANCELLED"])
    assert post["captionError"]["code"] == post["error"]["code"] == code
    assert (post["creditsReserved"], post["creditsCharged"]) == (0, 0)
    assert [output["startedAt"] for output in post["outputs"]] == [None, None]
    assert await credits_of(client) == before


async def test_a_failed_caption_can_be_retried_and_the_images_follow(
    client: GraphQLClient,
) -> None:
    post = await ended(client, await generate(client, captionModel="rehearsal-caption-fails-once"))
    assert post["status"] == "FAILED"

    refused = await regenerate_or_refuse(client, post, maxCredits=2)
    assert codes(refused) == [("MAX_CREDITS_EXCEEDED", "maxCredits")]
    again = await regenerate(client, post, maxCredits=3, idempotencyKey="again")
    repeated = await regenerate(client, post, maxCredits=3, idempotencyKey="again")

    assert (again["status"], statuses(again), again["creditsReserved"]) == (
        "GENERATING_CAPTION",
        ["QUEUED"],
        3,
    )
    assert again["captionError"] is None
    assert repeated["id"] == again["id"]
    finished = await ended(client, post)
    assert (finished["status"], statuses(finished)) == ("GENERATED", ["COMPLETED"])
    assert finished["caption"].startswith("Our new lavender soap")
    assert finished["creditsCharged"] == 3


async def test_a_post_that_costs_more_than_the_balance_is_refused(
    start_darkroom: StartDarkroom,
) -> None:
    client = (await start_darkroom(starting_credits=2)).client()

    refused = await generate_or_refuse(client)
    plan = await client(PLAN_POST, input={"userMessage": "Soap"})

    assert codes(refused) == [("INSUFFICIENT_CREDITS", "")]
    assert plan["planPost"]["credits"] == 3
    assert codes(plan["planPost"]) == [("INSUFFICIENT_CREDITS", "")]
    assert (await client("query { viewer { posts { nodes { id } } } }"))["viewer"] == {
        "posts": {"nodes": []}
    }


async def test_without_a_caption_model_posts_are_refused(
    start_darkroom: StartDarkroom,
) -> None:
    client = (await start_darkroom(local_models=False)).client()

    refused = await generate_or_refuse(client, selectedModels=["rehearsal-fails"])

    assert codes(refused) == [("NO_MODELS", "captionModel")]


# --- what can be done with a post


async def test_a_post_can_be_planned(client: GraphQLClient) -> None:
    source = await conversation_with(client)
    image = source["turn"]["outputs"][0]["image"]["id"]
    before = await credits_of(client)
    wanted = {"selectedModels": ["local-silver", "local-ink"], "manualReferenceIds": [image]}

    planned = await client(PLAN_POST, input={"userMessage": "As in @Image1", **wanted})

    plan = planned["planPost"]
    assert plan["credits"] == 1 + 4 + 4
    assert [model["credits"] for model in plan["models"]] == [4, 4]
    assert [reference["image"]["id"] for reference in plan["references"]] == [image]
    assert plan["userErrors"] == []
    assert await credits_of(client) == before
    wrong = await client(
        PLAN_POST, input={"userMessage": "As in @Image2", "captionModel": "x", **wanted}
    )
    assert codes(wrong["planPost"]) == [
        ("UNKNOWN_MENTION", "userMessage"),
        ("UNKNOWN_MODEL", "captionModel"),
    ]


async def test_an_idempotency_key_makes_one_post(client: GraphQLClient) -> None:
    first = await generate(client, captionModel=HANGS, idempotencyKey="one")
    second = await generate(client, captionModel=HANGS, idempotencyKey="one")
    other = await generate_or_refuse(client, idempotencyKey="one")
    turn = await client.execute(
        "mutation($i: StartConversationInput!) { startConversation(input: $i) "
        "{ userErrors { code path } } }",
        i={"userMessage": "A boat", "idempotencyKey": "one"},
    )

    assert first["id"] == second["id"]
    assert codes(other) == [("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]
    assert codes(turn["data"]["startConversation"]) == [
        ("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")
    ]
    nodes = (await client("query { viewer { posts { nodes { id } } } }"))["viewer"]["posts"]
    assert nodes == {"nodes": [{"id": first["id"]}]}
    await client(DELETE_POST, id=first["id"])
    gone = await generate_or_refuse(client, captionModel=HANGS, idempotencyKey="one")
    assert codes(gone) == [("NOT_FOUND", "idempotencyKey")]


async def test_a_caption_can_be_rewritten_while_the_images_stay(
    client: GraphQLClient,
) -> None:
    """Issue 13, point 6"""
    post = await ended(client, await generate(client, userMessage="Our soap is here"))
    images = [output["image"] for output in post["outputs"]]

    again = await regenerate(client, post, captionOptions={"hashtags": 1})
    finished = await ended(client, post)

    assert (again["status"], again["creditsReserved"]) == ("GENERATING_CAPTION", 1)
    assert finished["status"] == "GENERATED"
    assert finished["caption"] == "Our soap is here. Have a look.\n#soap"
    assert finished["captionOptions"]["hashtags"] == 1
    assert [output["image"] for output in finished["outputs"]] == images
    assert finished["creditsCharged"] == post["creditsCharged"] + 1


async def test_a_failed_rewrite_keeps_the_previous_caption(
    client: GraphQLClient,
) -> None:
    post = await ended(client, await generate(client))

    await regenerate(client, post, captionModel="rehearsal-caption-fails")
    finished = await ended(client, post)

    assert (finished["status"], finished["caption"]) == ("GENERATED", post["caption"])
    assert finished["captionError"]["code"] == "PROVIDER_UNAVAILABLE"
    assert finished["image"] == post["image"]


async def test_a_caption_that_is_being_written_cannot_be_rewritten(client: GraphQLClient) -> None:
    post = await writing_post(client)

    refused = await regenerate_or_refuse(client, post)

    assert codes(refused) == [("NOT_RETRYABLE", "postId")]


async def test_a_post_cancelled_during_its_caption_continues_with_a_retry(
    client: GraphQLClient,
) -> None:
    before = await credits_of(client)
    post = await writing_post(client)

    cancelled = (await client(CANCEL_POST, id=post["id"]))["cancelPost"]["post"]
    twice = (await client(CANCEL_POST, id=post["id"]))["cancelPost"]

    assert (cancelled["status"], statuses(cancelled)) == ("CANCELLED", ["CANCELLED"])
    assert codes(twice) == [("NOT_CANCELLABLE", "postId")]
    assert await credits_of(client) == before
    await regenerate(client, post, captionModel="local-writer")
    assert (await ended(client, post))["status"] == "GENERATED"


async def test_a_post_cancelled_during_its_images_keeps_delivered_ones(
    client: GraphQLClient,
) -> None:
    post = await generate(client, selectedModels=["local-silver", "rehearsal-hangs"])
    async with client.subscribe(FOLLOW_POST, id=post["id"]) as updates:
        await updates.until(lambda data: statuses(data["postUpdated"])[0] == "COMPLETED")

    cancelled = (await client(CANCEL_POST, id=post["id"]))["cancelPost"]["post"]

    assert (cancelled["status"], statuses(cancelled)) == ("GENERATED", ["COMPLETED", "CANCELLED"])
    assert cancelled["caption"] == "Our new lavender soap."
    assert (cancelled["creditsReserved"], cancelled["creditsCharged"]) == (0, 3)


RETRY = (
    """
mutation Retry($input: RetryOutputInput!) {
  retryOutput(input: $input) {
    cursor userErrors { code message path } turn { id } output { id attempt } post { ...Post }
  }
}
"""
    + POST
)
CANCEL_OUTPUT = """
mutation Cancel($id: ID!) {
  cancelOutput(input: {outputId: $id}) {
    userErrors { code path } turn { id } output { id status } post { id status }
  }
}
"""


async def test_an_output_of_a_post_can_be_retried(client: GraphQLClient) -> None:
    post = await ended(client, await generate(client, selectedModels=["rehearsal-fails-once"]))
    assert post["status"] == "FAILED"
    wanted = {"outputId": post["outputs"][0]["id"], "idempotencyKey": "retry"}

    retried = (await client(RETRY, input=wanted))["retryOutput"]
    repeated = (await client(RETRY, input=wanted))["retryOutput"]

    assert retried["userErrors"] == []
    assert (retried["turn"], retried["cursor"]) == (None, None)
    assert (retried["post"]["id"], retried["output"]["attempt"]) == (post["id"], 2)
    assert retried["post"]["status"] == "GENERATING_IMAGES"
    assert (repeated["post"]["id"], repeated["output"]["attempt"]) == (post["id"], 2)
    assert (await ended(client, post))["status"] == "GENERATED"


async def test_an_output_of_a_post_can_be_cancelled(client: GraphQLClient) -> None:
    post = await generate(client, selectedModels=["rehearsal-hangs"])
    async with client.subscribe(FOLLOW_POST, id=post["id"]) as updates:
        await updates.until(lambda data: statuses(data["postUpdated"]) == ["GENERATING"])

    payload = (await client(CANCEL_OUTPUT, id=post["outputs"][0]["id"]))["cancelOutput"]

    assert payload["turn"] is None
    assert payload["output"] == {"id": post["outputs"][0]["id"], "status": "CANCELLED"}
    assert payload["post"] == {"id": post["id"], "status": "CANCELLED"}


async def test_the_caption_cannot_be_addressed_as_an_output(client: GraphQLClient) -> None:
    post = await ended(client, await generate(client, captionModel="rehearsal-caption-fails"))
    name = post["outputs"][0]["id"].rpartition("_")[0] + "_0"

    retried = (await client(RETRY, input={"outputId": name}))["retryOutput"]
    node = await client("query($id: ID!) { node(id: $id) { id } }", id=name)

    assert codes(retried) == [("NOT_FOUND", "outputId")]
    assert node["node"] is None


# --- from a post on, and to a post


EDGES = """
query Edges($image: ID!, $output: ID!, $post: ID!) {
  image(id: $image) { origin turn { id } post { id } output { id } madeFrom { id } }
  node(id: $output) { ... on Output { id turn { id } post { id caption } } }
  nodes(ids: [$post]) { id ... on Post { caption outputs { id } } }
}
"""


async def test_a_post_its_outputs_and_its_images_refer_to_one_another(
    client: GraphQLClient,
) -> None:
    post = await ended(client, await generate(client))
    output = post["outputs"][0]

    found = await client(EDGES, image=post["image"]["id"], output=output["id"], post=post["id"])

    assert found["image"] == {
        "origin": "POST",
        "turn": None,
        "post": {"id": post["id"]},
        "output": {"id": output["id"]},
        "madeFrom": [],
    }
    assert found["node"]["turn"] is None
    assert found["node"]["post"] == {"id": post["id"], "caption": post["caption"]}
    assert found["nodes"][0]["outputs"] == [{"id": output["id"]}]
    assert (output["turn"], output["post"]) == (None, {"id": post["id"]})


async def test_any_image_of_a_post_can_start_a_conversation(client: GraphQLClient) -> None:
    """S1.39, S2: from a post on"""
    post = await ended(client, await generate(client, selectedModels=["local-ink", "local-silver"]))
    images = [output["image"]["id"] for output in post["outputs"]]

    started = [await start(client, sourceImageId=one, userMessage="Sepia") for one in images]
    turns = [await until_finished(client, one["turn"]) for one in started]

    for image, turn in zip(images, turns, strict=True):
        assert turn["status"] == "COMPLETED"
        assert [reference["image"]["id"] for reference in turn["references"]] == [image]
    deleted = (await client(DELETE_POST, id=post["id"]))["deletePost"]
    assert deleted == {"deletedPostId": post["id"], "userErrors": []}
    left = await client(
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Image { id post { id } } } }", ids=images
    )
    assert left["nodes"] == [{"id": one, "post": None} for one in images]


async def test_a_post_can_be_made_from_images_of_a_conversation(client: GraphQLClient) -> None:
    """S2.12; issue 13, point 6"""
    source = await conversation_with(client, userMessage="A lighthouse by the sea")
    image = source["turn"]["outputs"][0]["image"]["id"]
    message = "We open the tower of @Image1 on Sunday"

    post = await ended(
        client, await generate(client, userMessage=message, manualReferenceIds=[image])
    )

    assert post["status"] == "GENERATED"
    assert post["references"] == [{"origin": "MANUAL", "image": {"id": image}}]
    assert "In the picture: a lighthouse by the sea." in post["caption"]
    found = await client(
        EDGES, image=post["image"]["id"], output=post["outputs"][0]["id"], post=post["id"]
    )
    assert found["image"]["madeFrom"] == [{"id": image}]
    used = (await client(DELETE_IMAGE, id=image))["deleteImage"]
    assert codes(used) == [("IMAGE_IN_USE", "imageId")]


async def test_deleting_a_post_deletes_its_images_and_ends_its_subscription(
    client: GraphQLClient,
) -> None:
    post = await ended(client, await generate(client))
    running = await writing_post(client)
    async with client.subscribe(FOLLOW_POST, id=running["id"]) as updates:
        await updates.next()

        for one in (post, running):
            deleted = (await client(DELETE_POST, id=one["id"]))["deletePost"]
            assert deleted == {"deletedPostId": one["id"], "userErrors": []}

        await updates.completed()
    assert await read_post(client, post) is None
    image = await client("query($id: ID!) { image(id: $id) { id } }", id=post["image"]["id"])
    assert image["image"] is None
    assert (await credits_of(client))[1:] == (0, 0)


PAGE = """
query Page($first: Int, $after: String) {
  viewer { posts(first: $first, after: $after) {
    nodes { id } pageInfo { hasNextPage endCursor }
  } }
}
"""


async def test_posts_are_listed_newest_first(client: GraphQLClient) -> None:
    made = [(await generate(client, captionModel=HANGS))["id"] for _ in range(3)]

    first = (await client(PAGE, first=2))["viewer"]["posts"]
    after = first["pageInfo"]["endCursor"]
    second = (await client(PAGE, first=2, after=after))["viewer"]["posts"]

    nodes = [node["id"] for node in (*first["nodes"], *second["nodes"])]
    assert nodes == made[::-1]
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)


async def test_caption_models_can_be_queried_without_a_token(darkroom: Darkroom) -> None:
    data = await darkroom.anonymous()(
        "query { captionModels { id label company provider isDefault available unavailableReason "
        "retiresAt credits languages maxReferences aliases replacement { id } } }"
    )

    models = {model["id"]: model for model in data["captionModels"]}
    assert [name for name, model in models.items() if model["isDefault"]] == ["local-writer"]
    assert models["local-writer"]["languages"] == ["en", "pt"]
    old = models["caption-gpt-4-1"]
    assert (old["available"], old["unavailableReason"]) == (False, "NO_CREDENTIALS")
    assert old["replacement"] == {"id": "caption-gpt-6-luna"}
    assert old["retiresAt"] == "2027-01-14T00:00:00.000Z"
    assert all(model["credits"] > 0 for model in models.values())


async def test_concurrent_posts_of_one_viewer_do_not_wait_for_one_another(
    client: GraphQLClient,
) -> None:
    hanging = await writing_post(client)
    others = await asyncio.gather(*(generate(client) for _ in range(3)))

    states = await asyncio.gather(*(ended(client, post) for post in others))

    assert [state["status"] for state in states] == ["GENERATED"] * 3
    assert (await read_post(client, hanging))["status"] == "GENERATING_CAPTION"
