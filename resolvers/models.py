"""The model registry's root fields. They need no token."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

import domain.models
from schema.context import Info
from schema.models import ImageModel
from schema.scalars import given


@strawberry.type
class ModelQueries:
    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The model registry: what a model picker shows. Filter by what the models can "
        "do.",
    )
    def models(
        self,
        info: Info,
        scene: Annotated[
            domain.models.Scene | None, strawberry.argument(description="Only what can do this.")
        ] = strawberry.UNSET,
        provider: Annotated[
            str | None, strawberry.argument(description="Only what this provider serves.")
        ] = strawberry.UNSET,
        search: Annotated[
            str | None,
            strawberry.argument(description="Only what has these words in id, label or company."),
        ] = strawberry.UNSET,
        include_unlisted: Annotated[
            bool | None, strawberry.argument(description="Also what no picker shows.")
        ] = strawberry.UNSET,
    ) -> Sequence[domain.models.ImageModel]:
        return info.context.registry.find(
            scene=given(scene),
            provider=given(provider),
            search=given(search),
            include_unlisted=given(include_unlisted) or False,
        )

    @strawberry.field(
        graphql_type=ImageModel | None, description="A model by id or by any of its aliases."
    )
    def model(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="An id or an alias.")],
    ) -> domain.models.ImageModel | None:
        return info.context.registry.get(id)
