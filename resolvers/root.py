"""Query, Mutation and Subscription, put together from every noun; `python -m resolvers.root`
prints it.
"""

from typing import Final

import strawberry
from strawberry.extensions import MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.printer import print_schema
from strawberry.schema.config import StrawberryConfig

from resolvers.conversations import (
    ConversationMutations,
    ConversationQueries,
    ConversationSubscriptions,
)
from resolvers.images import ImageQueries
from resolvers.models import ModelQueries
from resolvers.nodes import NodeQueries
from resolvers.turns import TurnMutations, TurnQueries, TurnSubscriptions
from resolvers.viewer import ViewerQueries
from schema.scalars import SCALARS

_MAX_TOKENS: Final = 2_000
_CACHED_DOCUMENTS: Final = 256


@strawberry.type(description="What can be read.")
class Query(
    NodeQueries, ViewerQueries, ModelQueries, ConversationQueries, TurnQueries, ImageQueries
):
    pass


@strawberry.type(description="What can be done. Each answers with what it has changed.")
class Mutation(ConversationMutations, TurnMutations):
    pass


@strawberry.type(description="What can be followed: state as it stands, then as it changes.")
class Subscription(TurnSubscriptions, ConversationSubscriptions):
    pass


def _build(*, sort: bool) -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(
            sort_schema=sort, disable_field_suggestions=True, scalar_map=SCALARS
        ),
        extensions=[
            lambda: MaxTokensLimiter(_MAX_TOKENS),
            lambda: ParserCache(_CACHED_DOCUMENTS),
            lambda: ValidationCache(_CACHED_DOCUMENTS),
        ],
    )


schema: Final = _build(sort=False)


def exported() -> str:
    """The schema as the committed `schema.graphql` shows it."""
    # Sorting makes plain enums of Strawberry's own, which then read as text: only print the sorted.
    return print_schema(_build(sort=True))


if __name__ == "__main__":
    print(exported())  # noqa: T201
