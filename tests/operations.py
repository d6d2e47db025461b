"""The operations of a client of Darkroom, and steps that many tests share."""

import asyncio
from typing import Any

from tests.clients import Data, GraphQLClient
from tests.waits import PATIENCE_SECONDS

SMALL = {"width": 256, "height": 256, "previews": 0}
"""Options that make a local model quick."""

TURN = """
fragment Turn on Turn {
  id turnIndex userMessage status aspectRatio resolution createdAt updatedAt completedAt
  selectedModels { id }
  pendingModels { id }
  references { origin image { id } }
  options { imagesPerModel previews quality format width height seed negativePrompt context }
  error { code message retryable }
  outputs {
    id status attempt progress queuePosition requestedModelId text queuedAt startedAt completedAt
    model { id }
    preview { index url width height }
    image { id }
    images { id width height contentType byteSize thumbhash origin seed url urlExpiresAt }
    references { origin image { id } }
    error { code message retryable }
    usage { inputTokens outputTokens totalTokens }
    provider quality size
  }
}
"""

START = (
    """
mutation Start($input: StartConversationInput!) {
  startConversation(input: $input) {
    cursor
    userErrors { code message path }
    conversation {
      id title turnCount aspectRatio resolution cursor createdAt updatedAt sourceImage { id }
    }
    turn { ...Turn }
  }
}
"""
    + TURN
)

SEND = (
    """
mutation Send($input: SendEditInput!) {
  sendEdit(input: $input) { cursor userErrors { code message path } turn { ...Turn } }
}
"""
    + TURN
)

FOLLOW = (
    """
subscription Follow($id: ID!, $after: String) {
  turnUpdated(conversationId: $id, after: $after) {
    cursor changedOutputs { id } turn { ...Turn }
  }
}
"""
    + TURN
)

RENAME = """
mutation Rename($id: ID!, $title: String!) {
  renameConversation(input: {conversationId: $id, title: $title}) {
    conversation { id title updatedAt } userErrors { code path }
  }
}
"""

DELETE = """
mutation Delete($id: ID!) {
  deleteConversation(input: {conversationId: $id}) {
    deletedConversationId userErrors { code path }
  }
}
"""

GALLERY = """
query Gallery(
  $first: Int, $after: String, $favourite: Boolean, $origin: ImageOrigin, $modelId: ID
) {
  viewer { images(
    first: $first, after: $after, favourite: $favourite, origin: $origin, modelId: $modelId
  ) {
    nodes { id origin prompt favourite url width height thumbhash createdAt model { id } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } }
}
"""

DELETE_IMAGE = """
mutation DeleteImage($id: ID!) {
  deleteImage(input: {imageId: $id}) { deletedImageId userErrors { code message path } }
}
"""

DELETE_IMAGES = """
mutation DeleteImages($ids: [ID!]!) {
  deleteImages(input: {imageIds: $ids}) { deletedImageIds userErrors { code message path } }
}
"""

DELETE_VIEWER = """
mutation DeleteViewer($id: ID!) {
  deleteViewer(input: {viewerId: $id}) { deletedViewerId userErrors { code message path } }
}
"""

DELETE_PROMPT = """
mutation DeletePrompt($id: ID!) {
  deletePrompt(input: {promptId: $id}) { deletedPromptId userErrors { code message path } }
}
"""

SET_FAVOURITE = """
mutation SetFavourite($id: ID!, $favourite: Boolean!) {
  setFavourite(input: {id: $id, favourite: $favourite}) {
    image { id favourite } prompt { id favourite } userErrors { code message path }
  }
}
"""

PROMPTS = """
query Prompts($first: Int, $after: String, $search: String, $favourite: Boolean) {
  viewer { prompts(first: $first, after: $after, search: $search, favourite: $favourite) {
    nodes { id text uses favourite lastUsedAt } edges { cursor }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } }
}
"""

FINISHED = {"COMPLETED", "FAILED", "CANCELLED"}


async def start(client: GraphQLClient, **input: Any) -> Data:
    """The payload of a start that is not refused: by default from words, with a quick model."""
    answer = await start_or_refuse(client, **input)
    assert answer["userErrors"] == []
    return answer


async def start_or_refuse(client: GraphQLClient, **input: Any) -> Data:
    wanted = {"userMessage": "A boat", "selectedModels": ["local-silver"], "options": SMALL}
    data = await client(START, input={**wanted, **input})
    payload: Data = data["startConversation"]
    return payload


async def send(client: GraphQLClient, conversation_id: str, **input: Any) -> Data:
    """The payload of an edit that is not refused."""
    answer = await send_or_refuse(client, conversation_id, **input)
    assert answer["userErrors"] == []
    return answer


async def send_or_refuse(client: GraphQLClient, conversation_id: str, **input: Any) -> Data:
    wanted = {"conversationId": conversation_id, "userMessage": "Sepia", "options": SMALL}
    data = await client(SEND, input={**wanted, **input})
    payload: Data = data["sendEdit"]
    return payload


async def followed(client: GraphQLClient, turn: Data, after: str | None = None) -> list[Data]:
    """Every update of a turn's conversation until that turn is over."""
    conversation_id = "conv_" + turn["id"].split("_")[1]
    async with client.subscribe(FOLLOW, id=conversation_id, after=after) as updates:
        seen = await updates.until(
            lambda data: (
                data["turnUpdated"]["turn"]["id"] == turn["id"]
                and data["turnUpdated"]["turn"]["status"] in FINISHED
            )
        )
    return [data["turnUpdated"] for data in seen]


async def until_finished(client: GraphQLClient, turn: Data) -> Data:
    """The turn once it is over."""
    finished: Data = (await followed(client, turn))[-1]["turn"]
    return finished


async def conversation_with(client: GraphQLClient, *, turns: int = 1, **input: Any) -> Data:
    """The payload of a conversation whose turns are all over."""
    payload = await start(client, **input)
    payload["turn"] = await until_finished(client, payload["turn"])
    for _ in range(turns - 1):
        sent = await send(client, payload["conversation"]["id"])
        payload["turn"] = await until_finished(client, sent["turn"])
    return payload


async def a_sample(client: GraphQLClient) -> Data:
    """One of the viewer's sample pictures."""
    return (await samples(client))[0]


async def samples(client: GraphQLClient) -> list[Data]:
    """The viewer's sample pictures. A Darkroom that has just been started may take a while."""
    nodes: list[Data] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not nodes:
            nodes = (await client(GALLERY, origin="SAMPLE"))["viewer"]["images"]["nodes"]
            await asyncio.sleep(0 if nodes else 0.1)
    return nodes


def codes(payload: Data) -> list[tuple[str, str]]:
    """What a payload refuses: each code with its path, without the leading `input`."""
    return [(one["code"], ".".join(one["path"][1:])) for one in payload["userErrors"]]
