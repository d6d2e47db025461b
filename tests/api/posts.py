"""Operations on posts, and steps shared by their tests."""

from typing import Any, Final

from tests.clients import Data, GraphQLClient
from tests.operations import SMALL

POST: Final = """
fragment Post on Post {
  id userMessage status caption createdAt updatedAt completedAt totalModels
  captionModel { id } captionError { code message retryable }
  captionOptions { language maxLength hashtags tone }
  selectedModels { id } pendingModels { id }
  references { origin image { id } }
  aspectRatio resolution
  options { imagesPerModel previews }
  image { id }
  error { code message retryable }
  creditsReserved creditsCharged
  outputs {
    id status attempt queuedAt startedAt creditsReserved creditsCharged
    model { id } image { id origin } error { code }
    turn { id } post { id }
  }
}
"""
GENERATE: Final = (
    """
mutation Generate($input: GeneratePostInput!) {
  generatePost(input: $input) { userErrors { code message path } post { ...Post } }
}
"""
    + POST
)
REGENERATE: Final = (
    """
mutation Regenerate($input: RegenerateCaptionInput!) {
  regenerateCaption(input: $input) { userErrors { code message path } post { ...Post } }
}
"""
    + POST
)
CANCEL_POST: Final = (
    """
mutation Cancel($id: ID!) {
  cancelPost(input: {postId: $id}) { userErrors { code message path } post { ...Post } }
}
"""
    + POST
)
DELETE_POST: Final = """
mutation Delete($id: ID!) {
  deletePost(input: {postId: $id}) { deletedPostId userErrors { code message path } }
}
"""
READ_POST: Final = "query Read($id: ID!) { post(id: $id) { ...Post } }" + POST
FOLLOW_POST: Final = "subscription Follow($id: ID!) { postUpdated(postId: $id) { ...Post } }" + POST
PLAN_POST: Final = """
query Plan($input: PlanPostInput!) {
  planPost(input: $input) {
    credits references { image { id } } models { model { id } credits }
    userErrors { code message path }
  }
}
"""
ENDED: Final = {"GENERATED", "FAILED", "CANCELLED"}


async def generate(client: GraphQLClient, **input: Any) -> Data:
    """A post that is not refused: by default by the local writer and a quick local model."""
    payload = await generate_or_refuse(client, **input)
    assert payload["userErrors"] == []
    post: Data = payload["post"]
    return post


async def generate_or_refuse(client: GraphQLClient, **input: Any) -> Data:
    wanted = {
        "userMessage": "Our new lavender soap",
        "selectedModels": ["local-silver"],
        "options": SMALL,
    }
    data = await client(GENERATE, input={**wanted, **input})
    payload: Data = data["generatePost"]
    return payload


async def regenerate(client: GraphQLClient, post: Data, **input: Any) -> Data:
    payload = await regenerate_or_refuse(client, post, **input)
    assert payload["userErrors"] == []
    again: Data = payload["post"]
    return again


async def regenerate_or_refuse(client: GraphQLClient, post: Data, **input: Any) -> Data:
    data = await client(REGENERATE, input={"postId": post["id"], **input})
    payload: Data = data["regenerateCaption"]
    return payload


async def read_post(client: GraphQLClient, post: Data) -> Data:
    data = await client(READ_POST, id=post["id"])
    read: Data = data["post"]
    return read


async def followed_post(client: GraphQLClient, post: Data) -> list[Data]:
    """Every state of the post until it has ended."""
    async with client.subscribe(FOLLOW_POST, id=post["id"]) as updates:
        seen = await updates.until(lambda data: data["postUpdated"]["status"] in ENDED)
    return [data["postUpdated"] for data in seen]


async def ended(client: GraphQLClient, post: Data) -> Data:
    """The post once it has ended."""
    return (await followed_post(client, post))[-1]
