"""Image models: what a model picker shows."""

from datetime import datetime
from typing import Annotated, ClassVar

import strawberry

from domain import models, registry
from domain.models import AspectRatio
from schema.context import Info
from schema.enums import described_enum
from schema.scalars import given

described_enum(
    models.Scene,
    "What images are made from.",
    TEXT_TO_IMAGE="From text alone.",
    IMAGE_TO_IMAGE="From references and text.",
)
described_enum(
    models.Resolution,
    "The approximate area of an image. Width and height also depend on the aspect ratio.",
    ONE_K="The area of 1024 × 1024 pixels.",
    TWO_K="The area of 2048 × 2048 pixels.",
    FOUR_K="The area of 4096 × 4096 pixels.",
)
described_enum(
    models.Quality,
    "How much effort a model makes, for models that offer a choice.",
    LOW="Fastest and cheapest.",
    MEDIUM="Between the two.",
    HIGH="Slowest and most detailed.",
)
described_enum(
    models.ImageFormat,
    "The file format of delivered images.",
    PNG="Lossless, with transparency.",
    JPEG="Small files, without transparency.",
    WEBP="Small files, with transparency.",
)
described_enum(
    registry.ModelUnavailableReason,
    "Why a model is not available.",
    NO_CREDENTIALS="No credentials are configured for its provider.",
    RETIRED="The model has been retired.",
    REFUSED_BY_PROVIDER="The provider reports that it does not serve the model any more.",
    SWITCHED_OFF="The operator of this deployment has switched the model off.",
)


@strawberry.type(description="The widths and heights that a model supports.")
class CustomSize:
    source: ClassVar[type] = models.CustomSize

    minimum: int = strawberry.field(description="The smallest allowed width or height, in pixels.")
    maximum: int = strawberry.field(description="The largest allowed width or height, in pixels.")
    step: int = strawberry.field(
        description="The increment, in pixels: allowed values are `minimum` plus a multiple of "
        "`step`."
    )


_Lazy = Annotated["ImageModel", strawberry.lazy("schema.models")]


@strawberry.type(description="An image model of the model catalogue.")
class ImageModel:
    source: ClassVar[type] = models.ImageModel

    id: strawberry.ID = strawberry.field(
        description="The id of the model, e.g. `img-nano-banana-pro`. Query `model(id:)` with "
        "it, not `node(id:)`."
    )
    aliases: list[strawberry.ID] = strawberry.field(
        description="Other ids that are accepted for this model, e.g. "
        "`google/gemini-3-pro-image-preview`."
    )
    listed: bool = strawberry.field(
        description="Whether to show it in a model picker. An unlisted model can be used all "
        "the same."
    )
    retires_at: datetime | None = strawberry.field(
        description="When the provider stops, or has stopped, serving the model. Null if no "
        "date is known."
    )
    label: str = strawberry.field(description="The name to display.")
    description: str = strawberry.field(
        description="One sentence about its strengths, and a second one if it ends within a month."
    )
    company: str = strawberry.field(description="The company that made the model.")
    logo_url: str | None = strawberry.field(
        description="The absolute URL of a mark for the company, as SVG. It needs no token and "
        "may be cached. Null if there is none."
    )
    is_new: bool = strawberry.field(description="Whether to highlight it as new.")
    provider: str = strawberry.field(
        description="The provider that runs the model here: the first one with credentials. "
        "`local` and `rehearsal` need none."
    )
    providers: list[str] = strawberry.field(
        description="All providers that can run the model, in the order of preference, also those "
        "without credentials here."
    )
    available: bool = strawberry.field(
        description="Whether it can be selected. False if it has been retired, or if its "
        "provider has no credentials here: show it as disabled."
    )
    unavailable_reason: registry.ModelUnavailableReason | None = strawberry.field(
        description="Why it is not available. Null if it is available."
    )
    min_references: int = strawberry.field(description="The minimum number of references.")
    max_references: int = strawberry.field(
        description="The maximum number of references. 0 if it makes images from text alone."
    )
    aspect_ratios: list[AspectRatio] = strawberry.field(description="The supported aspect ratios.")
    resolutions: list[models.Resolution] = strawberry.field(
        description="The supported resolutions."
    )
    qualities: list[models.Quality] = strawberry.field(
        description="The supported qualities. Empty if there is no choice."
    )
    formats: list[models.ImageFormat] = strawberry.field(
        description="The supported file formats. Empty if there is no choice."
    )
    max_images: int = strawberry.field(description="The maximum number of images per output.")
    custom_size: CustomSize | None = strawberry.field(
        description="The supported widths and heights in pixels. Null if they cannot be chosen."
    )
    supports_previews: bool = strawberry.field(
        description="Whether it shows partial images while it runs."
    )
    supports_seed: bool = strawberry.field(description="Whether it accepts a seed.")
    supports_negative_prompt: bool = strawberry.field(
        description="Whether it accepts a negative prompt."
    )
    supports_masks: bool = strawberry.field(
        description="Whether the model is given the mask of an edit, so that it knows where to "
        "paint. A mask can be used with every model that edits: outside of it, the original is put "
        "back."
    )
    supports_context: bool = strawberry.field(
        description="Whether it can be given earlier messages of the conversation, with the "
        "option `context`."
    )
    supports_mentions: bool = strawberry.field(
        description="Whether it understands mentions of references in the message: @Image1, "
        "@Image2, …"
    )

    @strawberry.field(description="What it can make images from.")
    @staticmethod
    def scenes(model: strawberry.Parent[models.ImageModel]) -> list[models.Scene]:
        return [scene for scene in models.Scene if scene in model.scenes]

    @strawberry.field(
        description="Whether it is the default when no model is selected and none can be "
        "inherited. There is one default for each scene, unless no model is available for it."
    )
    @staticmethod
    def is_default(
        model: strawberry.Parent[models.ImageModel],
        info: Info,
        scene: Annotated[
            models.Scene | None,
            strawberry.argument(
                description="Whether it is the default for this scene. If omitted: for any scene."
            ),
        ] = strawberry.UNSET,
    ) -> bool:
        return info.context.services.registry.is_default(model, given(scene))

    @strawberry.field(
        description="The price of one image in credits. They are reserved when the output is "
        "queued, and charged for delivered images. Null for a scene, a resolution or a quality "
        "that the model does not support. `planTurn` returns the price of a whole turn."
    )
    @staticmethod
    def credits_per_image(
        model: strawberry.Parent[models.ImageModel],
        scene: Annotated[
            models.Scene, strawberry.argument(description="What the image is made from.")
        ],
        resolution: Annotated[
            models.Resolution | None,
            strawberry.argument(
                description="The resolution. If omitted: the one that is used if neither the "
                "request nor the conversation has one."
            ),
        ] = strawberry.UNSET,
        quality: Annotated[
            models.Quality | None,
            strawberry.argument(
                description="The quality. If omitted: the price without a requested quality."
            ),
        ] = strawberry.UNSET,
    ) -> int | None:
        size, effort = given(resolution), given(quality)
        is_supported = (
            scene in model.scenes
            and (size is None or size in model.resolutions)
            and (effort is None or effort in model.qualities)
        )
        if not is_supported:
            return None
        return model.credits_per_image(scene, resolution=size, quality=effort)

    @strawberry.field(
        graphql_type=_Lazy | None,
        description="The model to use instead, if this one has been retired. Null if there is "
        "none.",
    )
    @staticmethod
    def replacement(
        model: strawberry.Parent[models.ImageModel], info: Info
    ) -> models.ImageModel | None:
        return _optional(info, model.replacement_id)

    @strawberry.field(
        graphql_type=_Lazy | None,
        description="For a model that makes images from text alone: the model that is used "
        "automatically in its place if there are references. Null if there is none.",
    )
    @staticmethod
    def edit_model(
        model: strawberry.Parent[models.ImageModel], info: Info
    ) -> models.ImageModel | None:
        return _optional(info, model.edit_model_id)


def _optional(info: Info, name: str | None) -> models.ImageModel | None:
    return info.context.services.registry.remembered(name) if name is not None else None
