"""Parents of outputs as documents: what turns and posts have in common."""

from typing import ClassVar, Final

from domain.ids import ViewerId
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.parents import Parent, TurnOptions
from domain.stored import (
    Coded,
    Field,
    Instant,
    Key,
    Listed,
    Many,
    One,
    Property,
    Stored,
    Written,
)
from domain.turns import TurnPlan, TurnStatus
from storage.mongo.collections import Document
from storage.mongo.images import StoredImage, image_document
from storage.mongo.stored_outputs import (
    StoredOutput,
    StoredReference,
    imported_output,
    new_entry,
    queued_output,
    reference_documents,
)
from storage.mongo.traces import trace_field


class StoredOptions(Stored, TurnOptions):
    __slots__ = ("companion", "record")
    kind = TurnOptions
    fields: ClassVar = {
        "images_per_model": Key("imagesPerModel"),
        "previews": Key("previews"),
        "quality": Coded("quality", Quality),
        "format": Coded("format", ImageFormat),
        "width": Key("width"),
        "height": Key("height"),
        "seed": Key("seed"),
        "negative_prompt": Key("negativePrompt"),
        "earlier_messages": Key("earlierMessages", default=None, required=False),
        "context": Property(("earlierMessages",)),
        "mask": One("mask", StoredImage),
        "feather": Key("feather", default=None, required=False),
        "keep_outside": Key("keepOutside", default=None, required=False),
    }


PARENT_FIELDS: Final[dict[str, Field]] = {
    "id": Key("_id"),
    "owner_id": Key("ownerId"),
    "user_message": Key("userMessage"),
    "selected_model_ids": Listed("selectedModels"),
    "references": Many("references", StoredReference),
    "previous_were_named": Key("previousWereNamed", default=False, required=False),
    "aspect_ratio": Written("aspectRatio", AspectRatio.parse),
    "resolution": Coded("resolution", Resolution),
    "options": One("options", StoredOptions),
    "outputs": Many("outputs", StoredOutput, inherits=(("parentId", "_id"),)),
    "version": Key("version"),
    "created_at": Instant("createdAt"),
    "updated_at": Instant("updatedAt"),
    "completed_at": Instant("completedAt"),
}
"""What a stored parent has, whatever its kind."""


def new_parent(owner_id: ViewerId, plan: TurnPlan, *, waits: bool = False) -> Document:
    """The document of a new parent, as far as a plan decides it."""
    return {
        "ownerId": owner_id,
        "userMessage": plan.user_message,
        "selectedModels": [planned.requested_model_id for planned in plan.outputs],
        "references": reference_documents(plan.references),
        "previousWereNamed": plan.previous_were_named,
        "aspectRatio": str(plan.aspect_ratio),
        "resolution": plan.resolution.value,
        "options": _options_document(plan.options),
        "status": TurnStatus.PENDING.value,
        "outputs": [
            new_entry(slot, queued_output(planned, waits=waits))
            for slot, planned in enumerate(plan.outputs, start=1)
        ],
        "version": 1,
        "completedAt": None,
        **trace_field(),
    }


def imported_parent(parent: Parent) -> Document:
    """The document of one that was run elsewhere. All its outputs have ended."""
    return {
        "_id": parent.id,
        "ownerId": parent.owner_id,
        "userMessage": parent.user_message,
        "selectedModels": list(parent.selected_model_ids),
        "references": reference_documents(parent.references),
        "previousWereNamed": parent.previous_were_named,
        "aspectRatio": str(parent.aspect_ratio),
        "resolution": parent.resolution.value,
        "options": _options_document(parent.options),
        "outputs": [imported_output(output) for output in parent.outputs],
        "version": parent.version,
        "createdAt": parent.created_at,
        "updatedAt": parent.updated_at,
        "completedAt": parent.completed_at,
    }


def _options_document(options: TurnOptions) -> Document:
    return {
        "imagesPerModel": options.images_per_model,
        "previews": options.previews,
        "quality": options.quality,
        "format": options.format,
        "width": options.width,
        "height": options.height,
        "seed": options.seed,
        "negativePrompt": options.negative_prompt,
        "earlierMessages": options.earlier_messages,
        "mask": options.mask and image_document(options.mask),
        "feather": options.feather,
        "keepOutside": options.keep_outside,
    }
