"""The model registry's root fields. They need no token."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

import domain.captions
import domain.models
from schema.captions import CaptionModel
from schema.context import Info
from schema.models import ImageModel
from schema.scalars import given


@strawberry.type
class ModelQueries:
    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The model catalogue, for a model picker. Needs no token.",
    )
    def models(
        self,
        info: Info,
        scene: Annotated[
            domain.models.Scene | None,
            strawberry.argument(description="Return only models that support this scene."),
        ] = strawberry.UNSET,
        provider: Annotated[
            str | None,
            strawberry.argument(
                description="Return only models that this provider can run, whether or not it is "
                "the one that runs them here."
            ),
        ] = strawberry.UNSET,
        search: Annotated[
            str | None,
            strawberry.argument(
                description="Return only models whose id, alias, label or company contains "
                "all of these words."
            ),
        ] = strawberry.UNSET,
        include_unlisted: Annotated[
            bool | None,
            strawberry.argument(
                description="Whether to include models that a model picker does not show. Default: "
                "false."
            ),
        ] = strawberry.UNSET,
    ) -> Sequence[domain.models.ImageModel]:
        return info.context.services.registry.find(
            scene=given(scene),
            provider=given(provider),
            search=given(search),
            include_unlisted=given(include_unlisted) or False,
        )

    @strawberry.field(
        graphql_type=ImageModel | None,
        description="A model of the model catalogue. Null if there is none with this id or "
        "alias. Needs no token.",
    )
    def model(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID, strawberry.argument(description="The id of the model, or an alias.")
        ],
    ) -> domain.models.ImageModel | None:
        return info.context.services.registry.get(id)

    @strawberry.field(
        graphql_type=list[CaptionModel],
        description="The models that write the captions of posts. Needs no token.",
    )
    def caption_models(self, info: Info) -> Sequence[domain.captions.CaptionModel]:
        return [model for model in info.context.services.caption_models.all() if model.listed]
