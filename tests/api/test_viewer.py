"""The viewer: samples at the first request, the gallery, and no data without a token."""

import asyncio
from pathlib import Path

import pytest

from storage.mongo.database import open_database
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import GALLERY, conversation_with, samples
from tests.storage.plans import profiled


async def test_a_new_viewer_has_sample_images(
    client: GraphQLClient,
) -> None:
    images = (await client(GALLERY))["viewer"]["images"]["nodes"]

    assert len(images) >= 3
    assert {image["origin"] for image in images} == {"SAMPLE"}
    assert all(image["thumbhash"] and image["prompt"] for image in images)
    for image in images:
        assert (await client.http.get(image["url"])).status_code == 200


async def test_a_new_process_returns_samples_in_its_first_answer(
    start_darkroom: StartDarkroom,
) -> None:
    """They are stored, not generated: no client polls for them."""
    client = (await start_darkroom()).client()

    [first, *_] = (await client(GALLERY))["viewer"]["images"]["nodes"]

    assert (first["origin"], first["prompt"]) == ("SAMPLE", "A lighthouse above the sea at sunset")


async def test_concurrent_first_requests_create_samples_once(
    client: GraphQLClient,
) -> None:
    answers = await asyncio.gather(*(client(GALLERY) for _ in range(8)))

    seen = [{image["id"] for image in one["viewer"]["images"]["nodes"]} for one in answers]
    assert all(one == seen[0] for one in seen)


async def test_a_query_does_not_wait_for_samples_that_cannot_be_stored(
    start_darkroom: StartDarkroom, tmp_path: Path
) -> None:
    (tmp_path / "objects").write_text("no folder")
    client = (await start_darkroom()).client()
    await client(GALLERY)

    (tmp_path / "objects").unlink()
    # They are not tried again with every request.
    answers = [await client(GALLERY) for _ in range(3)]

    assert [one["viewer"]["images"]["nodes"] for one in answers] == [[], [], []]


async def test_a_page_of_the_gallery_takes_one_database_query(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client, settings = darkroom.client(), darkroom.settings
    await samples(client)
    assert settings.mongodb_uri is not None
    uri = settings.mongodb_uri.get_secret_value()

    async with (
        open_database(uri, settings.mongodb_database) as database,
        profiled(database, "images") as profile,
    ):
        await client(GALLERY)

    assert [one["op"] for one in profile.commands] == ["query"]


async def test_the_gallery_is_newest_first_and_can_be_filtered(client: GraphQLClient) -> None:
    first = await conversation_with(client, selectedModels=["local-silver"])
    second = await conversation_with(client, selectedModels=["local-ink"])
    ids = [payload["turn"]["outputs"][0]["image"]["id"] for payload in (second, first)]

    whole = (await client(GALLERY))["viewer"]["images"]["nodes"]
    outputs = (await client(GALLERY, origin="OUTPUT"))["viewer"]["images"]["nodes"]
    inked = (await client(GALLERY, origin="OUTPUT", modelId="local-ink"))["viewer"]["images"]

    assert [image["id"] for image in whole[:2]] == ids
    assert [image["id"] for image in outputs] == ids
    assert [image["id"] for image in inked["nodes"]] == ids[:1]


async def test_the_gallery_is_paged(client: GraphQLClient) -> None:
    pages: list[Data] = []
    after = None
    while not pages or pages[-1]["pageInfo"]["hasNextPage"]:
        pages.append((await client(GALLERY, first=2, after=after))["viewer"]["images"])
        after = pages[-1]["pageInfo"]["endCursor"]

    ids = [image["id"] for page in pages for image in page["nodes"]]
    assert len(ids) == len(set(ids)) == 4
    created = [image["createdAt"] for page in pages for image in page["nodes"]]
    assert created == sorted(created, reverse=True)


async def test_a_thumbnail_is_at_least_as_wide_as_requested(client: GraphQLClient) -> None:
    query = """{ viewer { images(first: 1) { nodes {
      width original: url small: url(width: 200) middle: url(width: 300) huge: url(width: 9999)
      urlExpiresAt
    } } } }"""
    image = (await client(query))["viewer"]["images"]["nodes"][0]

    small = await client.http.get(image["small"])
    middle = await client.http.get(image["middle"])

    assert image["huge"] == image["original"]
    assert len({image["small"], image["middle"], image["original"]}) == 3
    assert small.headers["content-type"] == middle.headers["content-type"] == "image/webp"
    assert len(small.content) < len(middle.content)


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { id } }",
        '{ node(id: "img_00000000000000000000000000") { id } }',
        '{ nodes(ids: []) { id } conversation(id: "x") { id } }',
        '{ turn(id: "x") { id } }',
        '{ image(id: "x") { id } }',
        'mutation { startConversation(input: {userMessage: "A boat"}) { cursor } }',
        'mutation { sendEdit(input: {conversationId: "x", userMessage: "A"}) { cursor } }',
        'mutation { deleteConversation(input: {conversationId: "x"}) { userErrors { code } } }',
        'mutation { renameConversation(input: {conversationId: "x", title: "A"}) '
        "{ userErrors { code } } }",
    ],
)
async def test_without_a_token_no_private_data_is_returned(darkroom: Darkroom, query: str) -> None:
    answer = await darkroom.anonymous().execute(query)

    codes = {error["extensions"]["code"] for error in answer["errors"]}
    assert codes == {"UNAUTHENTICATED"}
    assert answer["errors"][0]["path"]


async def test_the_viewer_is_a_node(client: GraphQLClient, darkroom: Darkroom) -> None:
    viewer_id = (await client("{ viewer { id } }"))["viewer"]["id"]
    query = "query($id: ID!) { node(id: $id) { id __typename } }"

    assert (await client(query, id=viewer_id))["node"] == {"id": viewer_id, "__typename": "Viewer"}
    assert (await darkroom.client()(query, id=viewer_id))["node"] is None


async def test_nodes_are_returned_in_the_order_of_their_ids(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    turn = payload["turn"]
    ids = [
        turn["outputs"][0]["id"],
        "nonsense",
        turn["outputs"][0]["image"]["id"],
        payload["conversation"]["id"],
        turn["id"],
    ]

    nodes = (await client("query($ids: [ID!]!) { nodes(ids: $ids) { __typename } }", ids=ids))[
        "nodes"
    ]

    assert [node and node["__typename"] for node in nodes] == [
        "Output",
        None,
        "Image",
        "Conversation",
        "Turn",
    ]
    too_many = await client.execute(
        "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["x"] * 101
    )
    assert too_many["errors"][0]["extensions"]["code"] == "QUERY_TOO_COMPLEX"
