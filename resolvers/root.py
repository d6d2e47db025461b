"""The schema: Query, Mutation and Subscription from the root fields of every noun.

`python -m resolvers.root` prints it.
"""

import strawberry
from strawberry.printer import print_schema
from strawberry.schema.config import StrawberryConfig

from resolvers.albums import AlbumMutations
from resolvers.conversations import (
    ConversationMutations,
    ConversationQueries,
    ConversationSubscriptions,
)
from resolvers.exports import ExportMutations
from resolvers.favourites import FavouriteMutations
from resolvers.images import ImageMutations, ImageQueries
from resolvers.models import ModelQueries
from resolvers.nodes import NodeQueries
from resolvers.plans import PlanQueries
from resolvers.posts import PostMutations, PostQueries, PostSubscriptions
from resolvers.prompts import PromptMutations
from resolvers.shares import ShareMutations, ShareQueries, ShareSubscriptions
from resolvers.turns import TurnMutations, TurnQueries, TurnSubscriptions
from resolvers.uploads import UploadMutations
from resolvers.viewer import ViewerMutations, ViewerQueries, ViewerSubscriptions
from resolvers.webhooks import WebhookMutations
from schema.scalars import SCALARS


@strawberry.type(
    description="All reads. Every field needs a token, except `models`, `model`, `captionModels` "
    "and `shared`."
)
class Query(
    NodeQueries,
    ViewerQueries,
    ModelQueries,
    PlanQueries,
    ConversationQueries,
    TurnQueries,
    PostQueries,
    ImageQueries,
    ShareQueries,
):
    pass


@strawberry.type(description="All changes. Each returns the objects that it has changed.")
class Mutation(
    ConversationMutations,
    TurnMutations,
    PostMutations,
    ImageMutations,
    UploadMutations,
    FavouriteMutations,
    AlbumMutations,
    PromptMutations,
    WebhookMutations,
    ShareMutations,
    ExportMutations,
    ViewerMutations,
):
    pass


@strawberry.type(
    description="Live updates, over WebSocket with the protocol graphql-transport-ws. Each "
    "sends the current state first, then the new state at every change."
)
class Subscription(
    TurnSubscriptions,
    ConversationSubscriptions,
    PostSubscriptions,
    ViewerSubscriptions,
    ShareSubscriptions,
):
    pass


def build_schema(*, sort: bool = False) -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(sort_schema=sort, scalar_map=SCALARS),
    )


def export_schema() -> str:
    """The schema as the committed `schema.graphql` shows it."""
    # Sorting turns Strawberry's enums into plain ones, which resolvers would read as text: the
    # sorted schema is only printed, never executed.
    return print_schema(build_schema(sort=True))


if __name__ == "__main__":
    print(export_schema())  # noqa: T201
