"""The model registry's root fields. They need no token."""

from typing import Annotated

import strawberry

from domain.models import Scene
from schema.context import Info
from schema.models import ImageModel
from schema.scalars import given


@strawberry.type
class ModelQueries:
    @strawberry.field(
        description="The model registry: what a model picker shows. Filter by what the models can "
        "do."
    )
    def models(
        self,
        info: Info,
        scene: Annotated[
            Scene | None, strawberry.argument(description="Only what can do this.")
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
    ) -> list[ImageModel]:
        found = info.context.registry.find(
            scene=given(scene),
            provider=given(provider),
            search=given(search),
            include_unlisted=given(include_unlisted) or False,
        )
        return [ImageModel.of(row) for row in found]

    @strawberry.field(description="A model by id or by any of its aliases.")
    def model(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="An id or an alias.")],
    ) -> ImageModel | None:
        row = info.context.registry.get(id)
        return ImageModel.of(row) if row else None
