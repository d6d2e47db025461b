"""Reads what turns and other parents have in common: outputs, references, options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.errors import GenerationErrorCode
from domain.ids import ImageId, ModelId, ParentId, ViewerId
from domain.images import Drift, Image
from domain.import_format.facts import Facts, NotAnExport
from domain.import_format.new_ids import NewIds
from domain.models import ImageFormat, Quality, Resolution
from domain.outputs import UNFINISHED, GenerationError, Output, OutputStatus, Usage
from domain.parents import MAX_PROMPT_LENGTH, TurnOptions
from domain.references import Reference, ReferenceOrigin

_MAX_OUTPUTS: Final = 20
MAX_REFERENCES: Final = 200
_MAX_ALL_IMAGES: Final = 400
"""Those that a turn or post refers to, and those that it has made: 110 references of a turn, and up
to 32 references and four images of each of eight models. With thousands in each, a page of turns
would take long to read.
"""
_MAX_IMAGES: Final = 20
"""Of one output."""
_SLOTS: Final = range(1, 100)


@dataclass(frozen=True, slots=True)
class PartsReader:
    """Reads the parts of parents, with the images that have been imported."""

    ids: NewIds
    images: Mapping[ImageId, Image]

    def parent(self, facts: Facts, parent_id: ParentId, owner_id: ViewerId) -> dict[str, Any]:
        """The attributes that all parents have."""
        created_at = facts.instant("createdAt")
        references, outputs = self.references(facts), self.outputs(facts, parent_id)
        images = len(references) + sum(len(one.references) + len(one.images) for one in outputs)
        if images > _MAX_ALL_IMAGES:
            raise NotAnExport("A turn or post refers to too many images.")
        return {
            "id": parent_id,
            "owner_id": owner_id,
            "user_message": facts.text("userMessage", most=MAX_PROMPT_LENGTH),
            "selected_model_ids": tuple(
                ModelId(text) for text in facts.texts("selectedModels", most=_MAX_OUTPUTS)
            ),
            "references": references,
            "previous_were_named": facts.flag("previousWereNamed"),
            "aspect_ratio": facts.ratio("aspectRatio"),
            "resolution": facts.member("resolution", Resolution),
            "options": self.options(facts.inside("options")),
            "outputs": outputs,
            "version": 1,
            "created_at": created_at,
            "updated_at": facts.optional("updatedAt", facts.instant) or created_at,
            "completed_at": facts.optional("completedAt", facts.instant) or created_at,
        }

    def outputs(self, facts: Facts, parent_id: ParentId) -> tuple[Output, ...]:
        """Read the outputs of a parent, of which at most one is chosen."""
        outputs = tuple(
            self.output(Facts(one, "An output"), parent_id)
            for one in facts.list("outputs", most=_MAX_OUTPUTS)
        )
        if not outputs or len({output.slot for output in outputs}) != len(outputs):
            raise NotAnExport("A turn or post has no outputs, or two in the same slot.")
        if sum(output.chosen for output in outputs) > 1:
            raise NotAnExport("Two outputs are chosen.")
        return outputs

    def output(self, facts: Facts, parent_id: ParentId, *, slots: range = _SLOTS) -> Output:
        """Read an output. Those that had not ended when they were exported are cancelled."""
        slot = facts.number("slot", least=slots[0], most=slots[-1])
        delivered = tuple(
            self.images[image_id]
            for name in facts.texts("images", most=_MAX_IMAGES)
            if (image_id := self.ids.image(name)) in self.images
        )
        status = facts.member("status", OutputStatus)
        if status in UNFINISHED:
            status = OutputStatus.COMPLETED if delivered else OutputStatus.CANCELLED
        queued_at = facts.instant("queuedAt")
        return Output(
            parent_id=parent_id,
            slot=slot,
            model_id=ModelId(facts.word("model")),
            requested_model_id=facts.word("requestedModel"),
            status=status,
            attempt=facts.number("attempt", least=1),
            fence=0,
            version=1,
            progress=None,
            queue_position=None,
            preview=None,
            images=delivered,
            references=self.references(facts),
            drift=_read_drift(facts.optional("drift", facts.inside)),
            provider=facts.optional("provider", facts.word),
            quality=facts.optional("quality", facts.word),
            size=facts.optional("size", facts.word),
            text=facts.optional("text", facts.text),
            usage=_read_usage(facts.optional("usage", facts.inside)),
            error=_read_error(facts, status),
            waits=facts.optional("waits", facts.flag) or False,
            runs=(),
            credits_reserved=0,
            credits_charged=0,
            chosen=facts.optional("chosen", facts.flag) or False,
            queued_at=queued_at,
            started_at=facts.optional("startedAt", facts.instant),
            completed_at=facts.optional("completedAt", facts.instant) or queued_at,
        )

    def references(self, facts: Facts) -> tuple[Reference, ...]:
        """Read references. Those whose images have no files are left out."""
        found = []
        for value in facts.list("references", most=MAX_REFERENCES):
            one = Facts(value, "A reference")
            image_id = self.ids.image(one.text("imageId"))
            if image_id in self.images:
                origin = one.member("origin", ReferenceOrigin)
                found.append(Reference(self.images[image_id], origin))
        return tuple(found)

    def options(self, facts: Facts) -> TurnOptions:
        mask_id = facts.optional("maskImageId", self.image_id_in(facts))
        return _read_options(facts, self.images.get(mask_id) if mask_id else None)

    def image_id_in(self, facts: Facts) -> Callable[[str], ImageId]:
        return lambda name: self.ids.image(facts.text(name))


def _read_options(facts: Facts, mask: Image | None) -> TurnOptions:
    return TurnOptions(
        mask=mask,
        feather=facts.optional("feather", facts.number) if mask else None,
        keep_outside=facts.optional("keepOutside", facts.flag) if mask else None,
        images_per_model=facts.number("imagesPerModel", least=1, most=100),
        previews=facts.number("previews", most=100),
        quality=facts.optional("quality", lambda name: facts.member(name, Quality)),
        format=facts.optional("format", lambda name: facts.member(name, ImageFormat)),
        width=facts.optional("width", facts.number),
        height=facts.optional("height", facts.number),
        seed=facts.optional("seed", facts.word),
        negative_prompt=facts.optional("negativePrompt", facts.text),
        earlier_messages=facts.optional("context", facts.word) == "CONVERSATION" or None,
    )


def _read_drift(facts: Facts | None) -> Drift | None:
    if facts is None:
        return None
    outside = facts.optional("outsideMask", facts.fraction)
    return Drift(changed=facts.fraction("changed"), outside_mask=outside)


def _read_usage(facts: Facts | None) -> Usage | None:
    if facts is None:
        return None
    return Usage(
        facts.optional("inputTokens", facts.number),
        facts.optional("outputTokens", facts.number),
        facts.optional("totalTokens", facts.number),
    )


def _read_error(facts: Facts, status: OutputStatus) -> GenerationError | None:
    if status is not OutputStatus.FAILED:
        return None
    error = facts.optional("error", facts.inside)
    if error is None:
        return GenerationError(GenerationErrorCode.INTERNAL, retryable=True)
    return GenerationError(error.member("code", GenerationErrorCode), error.flag("retryable"))
