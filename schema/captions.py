"""Caption models: who writes the captions of posts."""

from datetime import datetime
from typing import Annotated, ClassVar

import strawberry

from domain import captions, registry
from schema.context import Info
from schema.hints import hints

_Lazy = Annotated["CaptionModel", strawberry.lazy("schema.captions")]


@strawberry.type(description="A model that writes the captions of posts.")
class CaptionModel:
    source: ClassVar[type] = captions.CaptionModel

    id: strawberry.ID = strawberry.field(description="The id, e.g. `caption-gpt-6-luna`.")
    aliases: list[strawberry.ID] = strawberry.field(
        description="Other ids that are accepted for it, e.g. `openai/gpt-6-luna`."
    )
    label: str = strawberry.field(description="The name to show.")
    description: str = strawberry.field(description="One or two sentences for people who choose.")
    company: str = strawberry.field(description="Who made the model.")
    provider: str = strawberry.field(
        description="The provider that runs the model here: the first one with credentials. "
        "`local` and `rehearsal` need none."
    )
    available: bool = strawberry.field(
        description="Whether it can be selected. If not, show it as disabled."
    )
    unavailable_reason: registry.ModelUnavailableReason | None = strawberry.field(
        description="Why it is not available. Null if it is available."
    )
    retires_at: datetime | None = strawberry.field(
        description="When its provider stops, or stopped, serving it. Null if that is not known."
    )
    credits: int = strawberry.field(
        description="The price of one caption in credits. They are reserved when it is queued, "
        "and charged once it is written."
    )
    languages: list[str] = strawberry.field(
        description="The languages that it writes, as primary subtags of BCP 47, e.g. `pt`. Empty "
        "if it writes any."
    )
    max_references: int = strawberry.field(
        description="How many of the references of a post it sees. It also reads the prompts that "
        "they were made from."
    )

    @strawberry.field(
        description="Whether it is the default when none is selected.",
        metadata=hints("id"),
    )
    @staticmethod
    def is_default(model: strawberry.Parent[captions.CaptionModel], info: Info) -> bool:
        default = info.context.services.caption_models.default()
        return default is not None and default.id == model.id

    @strawberry.field(
        graphql_type=_Lazy | None,
        description="The model to use instead, if this one has been retired. Null if there is "
        "none.",
        metadata=hints("replacement_id"),
    )
    @staticmethod
    def replacement(
        model: strawberry.Parent[captions.CaptionModel], info: Info
    ) -> captions.CaptionModel | None:
        name = model.replacement_id
        return info.context.services.caption_models.remembered(name) if name is not None else None
