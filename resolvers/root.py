"""Query, Mutation and Subscription, put together from every noun; `python -m resolvers.root`
prints it.
"""

from typing import Final

import strawberry
from graphql import GraphQLError
from strawberry.extensions import ValidationCache
from strawberry.printer import print_schema
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext

from edge.documents import CACHED_DOCUMENTS, Documents
from resolvers.conversations import (
    ConversationMutations,
    ConversationQueries,
    ConversationSubscriptions,
)
from resolvers.favourites import FavouriteMutations
from resolvers.images import ImageMutations, ImageQueries
from resolvers.models import ModelQueries
from resolvers.nodes import NodeQueries
from resolvers.plans import PlanQueries
from resolvers.turns import TurnMutations, TurnQueries, TurnSubscriptions
from resolvers.uploads import UploadMutations
from resolvers.viewer import ViewerQueries, ViewerSubscriptions
from schema.scalars import SCALARS


@strawberry.type(description="All reads. Every field needs a token, except `models` and `model`.")
class Query(
    NodeQueries,
    ViewerQueries,
    ModelQueries,
    PlanQueries,
    ConversationQueries,
    TurnQueries,
    ImageQueries,
):
    pass


@strawberry.type(description="All changes. Each returns the objects that it has changed.")
class Mutation(
    ConversationMutations, TurnMutations, ImageMutations, UploadMutations, FavouriteMutations
):
    pass


@strawberry.type(
    description="Live updates, over WebSocket with the protocol graphql-transport-ws. Each "
    "sends the current state first, then the new state at every change."
)
class Subscription(TurnSubscriptions, ConversationSubscriptions, ViewerSubscriptions):
    pass


class _Schema(strawberry.Schema):
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing: whoever shows an error knows whether it is ours."""


def _build(*, sort: bool) -> strawberry.Schema:
    return _Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(
            sort_schema=sort, disable_field_suggestions=True, scalar_map=SCALARS
        ),
        extensions=[
            lambda: ValidationCache(CACHED_DOCUMENTS),
            Documents,
        ],
    )


schema: Final = _build(sort=False)


def exported() -> str:
    """The schema as the committed `schema.graphql` shows it."""
    # Sorting makes plain enums of Strawberry's own, which then read as text: only print the sorted.
    return print_schema(_build(sort=True))


if __name__ == "__main__":
    print(exported())  # noqa: T201
