"""Image models: what a model picker shows."""

from datetime import datetime
from typing import Annotated, ClassVar

import strawberry

from domain import models
from domain.models import AspectRatio
from schema.context import Info
from schema.enums import described_enum

described_enum(
    models.Scene,
    "What a model can make images from.",
    TEXT_TO_IMAGE="From words alone.",
    IMAGE_TO_IMAGE="From references and words.",
)
described_enum(
    models.Resolution,
    "How large an image is, by its area: the sizes of a square one are told.",
    ONE_K="About 1024 × 1024 pixels.",
    TWO_K="About 2048 × 2048 pixels.",
    FOUR_K="About 4096 × 4096 pixels.",
)
described_enum(
    models.Quality,
    "How much care a model takes, where it lets one choose.",
    LOW="Quick and cheap.",
    MEDIUM="In between.",
    HIGH="Slow and fine.",
)
described_enum(
    models.ImageFormat,
    "A file format of delivered images.",
    PNG="Lossless, with transparency.",
    JPEG="Small, without transparency.",
    WEBP="Small, with transparency.",
)
described_enum(
    models.ModelUnavailableReason,
    "Why a model cannot be used.",
    NO_CREDENTIALS="Its provider has no credentials here.",
    RETIRED="It has been retired.",
    REFUSED_BY_PROVIDER="Its provider says that it is gone.",
)


@strawberry.type(description="Bounds and step of a width and height that may be asked for.")
class CustomSize:
    source: ClassVar[type] = models.CustomSize

    minimum: int = strawberry.field(description="The shortest side, in pixels.")
    maximum: int = strawberry.field(description="The longest side, in pixels.")
    step: int = strawberry.field(description="Sides are the minimum plus a multiple of this.")


_Lazy = Annotated["ImageModel", strawberry.lazy("schema.models")]


@strawberry.type(description="A model of the registry: one row of a model picker.")
class ImageModel:
    source: ClassVar[type] = models.ImageModel

    id: strawberry.ID = strawberry.field(
        description="The registry's id, e.g. `img-nano-banana-pro`. Not for `node(id:)`: ask "
        "`model(id:)`."
    )
    aliases: list[strawberry.ID] = strawberry.field(
        description="Other names that are accepted for it, e.g. "
        "`google/gemini-3-pro-image-preview`."
    )
    listed: bool = strawberry.field(
        description="False for a model that works but is not shown in a picker."
    )
    is_default: bool = strawberry.field(
        description="What is used where none is named and none can be inherited; one model of "
        "each scene."
    )
    retires_at: datetime | None = strawberry.field(
        description="When its provider stopped, or will stop, serving it."
    )
    label: str = strawberry.field(description="Its name for people.")
    description: str = strawberry.field(description="A sentence on what it is good at.")
    company: str = strawberry.field(description="Who made it.")
    logo_url: str | None = strawberry.field(description="A picture of the company's mark.")
    is_new: bool = strawberry.field(description="Whether to point it out as new.")
    provider: str = strawberry.field(
        description="Who serves it here: the first of its routes that has credentials. `local` "
        "and `rehearsal` need none."
    )
    available: bool = strawberry.field(
        description="False where the provider has no credentials here or has retired the model; "
        "such a model is shown, never accepted."
    )
    unavailable_reason: models.ModelUnavailableReason | None = strawberry.field(
        description="Why it is not available; null where it is."
    )
    min_references: int = strawberry.field(description="How many references it needs.")
    max_references: int = strawberry.field(description="How many references it is given at most.")
    aspect_ratios: list[AspectRatio] = strawberry.field(description="The ratios it offers.")
    resolutions: list[models.Resolution] = strawberry.field(
        description="The resolutions it offers."
    )
    qualities: list[models.Quality] = strawberry.field(
        description="The qualities it offers; empty where there is no choice."
    )
    formats: list[models.ImageFormat] = strawberry.field(
        description="The formats it offers; empty where there is no choice."
    )
    max_images: int = strawberry.field(description="How many images it makes at once at most.")
    custom_size: CustomSize | None = strawberry.field(
        description="Null where any size is refused; else the bounds and the step of width and "
        "height, in pixels."
    )
    supports_previews: bool = strawberry.field(
        description="Whether it shows partial images while it works."
    )
    supports_seed: bool = strawberry.field(description="Whether it takes a seed.")
    supports_negative_prompt: bool = strawberry.field(
        description="Whether it takes a negative prompt."
    )
    supports_mentions: bool = strawberry.field(
        description="The prompt may name the turn's references as @Image1, @Image2, …"
    )

    @strawberry.field(description="What it can make images from.")
    @staticmethod
    def scenes(model: strawberry.Parent[models.ImageModel]) -> list[models.Scene]:
        return [scene for scene in models.Scene if scene in model.scenes]

    @strawberry.field(
        description="What an image costs, before it is delivered reserved; null for a scene that "
        "the model does not do."
    )
    @staticmethod
    def credits_per_image(
        model: strawberry.Parent[models.ImageModel],
        scene: Annotated[models.Scene, strawberry.argument(description="What it is made from.")],
    ) -> int | None:
        return model.credits_per_image(scene) if scene in model.scenes else None

    @strawberry.field(
        graphql_type=_Lazy | None, description="What to use instead of a retired model."
    )
    @staticmethod
    def replacement(
        model: strawberry.Parent[models.ImageModel], info: Info
    ) -> models.ImageModel | None:
        return _optional(info, model.replacement_id)

    @strawberry.field(
        graphql_type=_Lazy | None,
        description="The sibling that edits, for a model that only makes images from words: it is "
        "used instead wherever there are references.",
    )
    @staticmethod
    def edit_model(
        model: strawberry.Parent[models.ImageModel], info: Info
    ) -> models.ImageModel | None:
        return _optional(info, model.edit_model_id)


def _optional(info: Info, name: str | None) -> models.ImageModel | None:
    return info.context.registry.remembered(name) if name is not None else None
