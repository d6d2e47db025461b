"""What turns and posts have in common: a message, references, options, and one output per model."""

from datetime import datetime
from typing import ClassVar

import strawberry

from domain import models, parents
from domain.models import AspectRatio
from schema.context import Info
from schema.hints import hints
from schema.images import Image
from schema.models import ImageModel
from schema.node import Node
from schema.outputs import Output, Reference


@strawberry.type(
    description="The options that the turn or post was requested with, to fill in a form again."
)
class TurnOptions:
    source: ClassVar[type] = parents.TurnOptions

    images_per_model: int = strawberry.field(description="The number of images of each model.")
    previews: int = strawberry.field(
        description="The number of previews of each model that shows any."
    )
    quality: models.Quality | None = strawberry.field(
        description="The quality. Null if none was chosen."
    )
    format: models.ImageFormat | None = strawberry.field(
        description="The file format. Null if none was chosen."
    )
    width: int | None = strawberry.field(
        description="The width in pixels. Null if none was chosen."
    )
    height: int | None = strawberry.field(
        description="The height in pixels. Null if none was chosen."
    )
    seed: str | None = strawberry.field(description="The seed. Null if none was given.")
    negative_prompt: str | None = strawberry.field(
        description="What the images should not show. Null if nothing was given."
    )
    context: parents.PromptContext = strawberry.field(description="What the models read.")
    mask: Image | None = strawberry.field(
        description="Where the edited image may change. Null if it may change everywhere."
    )
    feather: int | None = strawberry.field(
        description="The width of the mask's soft edge, in pixels. Null without a mask."
    )
    keep_outside: bool | None = strawberry.field(
        description="Whether the original is put back outside of the mask also if a model supports "
        "masks. Null without a mask."
    )


@strawberry.type
class ParentNode(Node):
    user_message: str = strawberry.field(description="The message of the viewer.")
    options: TurnOptions = strawberry.field(description="The other options that were requested.")
    references: list[Reference] = strawberry.field(
        description="The references in the order of their numbers: the previous outputs first, "
        "then the manual references. The first is @Image1."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="The aspect ratio that was requested or inherited. The size of each image "
        "may differ from it."
    )
    resolution: models.Resolution = strawberry.field(
        description="The resolution that was requested or inherited. The size of each image may "
        "differ from it."
    )
    outputs: list[Output] = strawberry.field(
        description="One output for each selected model, in the order of `selectedModels`."
    )
    created_at: datetime = strawberry.field(description="When it was requested.")
    updated_at: datetime = strawberry.field(
        description="When it last changed. Each state has a later time than the one before."
    )

    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The models that the viewer selected, or that were inherited.",
        metadata=hints("selected_model_ids"),
    )
    @staticmethod
    def selected_models(
        parent: strawberry.Parent[parents.Parent], info: Info
    ) -> list[models.ImageModel]:
        registry = info.context.services.registry
        return [registry.remembered(name) for name in parent.selected_model_ids]

    @strawberry.field(
        graphql_type=list[ImageModel],
        description="The models whose outputs have not ended. Empty once all have ended.",
        metadata=hints("outputs"),
    )
    @staticmethod
    def pending_models(
        parent: strawberry.Parent[parents.Parent], info: Info
    ) -> list[models.ImageModel]:
        registry = info.context.services.registry
        return [
            registry.remembered(output.model_id) for output in parent.outputs if output.unfinished
        ]
