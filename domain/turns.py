"""A turn: a message, the references that go along, and one output per model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from domain.changes import Bookmark, ClusterTime
from domain.ids import ConversationId, ModelId, PostId, TurnId, ViewerId, conversation_of_turn
from domain.images import Image
from domain.models import AspectRatio, ImageModel, Resolution
from domain.outputs import GenerationError, Output
from domain.parents import Parent, TurnOptions
from domain.references import Reference


class TurnStatus(StrEnum):
    WAITING = "WAITING"
    """For the turn before it to end. It has no outputs yet."""
    PENDING = "PENDING"
    GENERATING = "GENERATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


IN_PROGRESS: Final = frozenset({TurnStatus.WAITING, TurnStatus.PENDING, TurnStatus.GENERATING})


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRequest:
    """A mask as a viewer names it."""

    image_id: str
    feather: int = 0
    keep_outside: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """What a viewer asks of a turn, whichever mutation it came by. None: left out."""

    user_message: str
    selected_models: tuple[str, ...] | None = None
    manual_reference_ids: tuple[str, ...] = ()
    aspect_ratio: AspectRatio | None = None
    resolution: Resolution | None = None
    options: TurnOptions = field(default_factory=TurnOptions)
    mask: MaskRequest | None = None


@dataclass(frozen=True, slots=True)
class SendEdit:
    """Ask for the next turn of a conversation. `previous_output_ids` None: the references
    are those of the previous turn.
    """

    conversation_id: str
    turn: TurnRequest
    previous_output_ids: tuple[str, ...] | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None
    when_ready: bool | None = None
    """Whether to wait for the latest turn, if it has not ended. None: not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEdit:
    """What was asked of a turn that waits, beside what the turn itself has."""

    selected_models: tuple[str, ...] | None
    previous_output_ids: tuple[str, ...] | None
    max_credits: int | None


@dataclass(frozen=True, slots=True)
class PlanTurn:
    """Ask what a turn would be: the next one of a conversation, or the first one of a new one."""

    conversation_id: str | None
    source_image_id: str | None
    turn: TurnRequest
    previous_output_ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class RetryOutput:
    """Ask for a failed or cancelled output again. `model_id` None: by the model it had."""

    output_id: str
    model_id: str | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class RerunTurn:
    """Ask for a turn once more, as the next one. `selected_models` None: by those it had."""

    turn_id: str
    selected_models: tuple[str, ...] | None = None
    max_credits: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Builder:
    """What builds on a turn: a conversation that starts from one of its images, or a turn or post
    that refers to one.
    """

    id: ConversationId | TurnId | PostId
    text: str
    """The conversation's title, or the message of the turn or post."""
    turn_index: int | None
    """None for a conversation or a post."""
    waits: bool = False
    """Whether it is a turn that waits for this one, instead."""


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """Why a turn was not deleted."""

    builders: Sequence[Builder]


@dataclass(frozen=True, slots=True)
class ChooseOutput:
    """Mark the output to continue from, or take the mark back."""

    output_id: str
    chosen: bool = True


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One model's part of a turn that is about to be written."""

    model: ImageModel
    requested_model_id: ModelId
    references: tuple[Reference, ...]
    """What it is given."""
    dropped_references: tuple[Reference, ...]
    """What it is not given, because it takes fewer."""
    credits: int
    """For all images that are asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPlan:
    """A turn as it would be written. It may be, if no refusal has been found with it."""

    user_message: str
    references: tuple[Reference, ...]
    previous_were_named: bool
    aspect_ratio: AspectRatio
    resolution: Resolution
    options: TurnOptions
    outputs: tuple[PlannedOutput, ...]
    waiting: WaitingEdit | None = None
    """Of a turn that waits. Its outputs are planned again when the turn before it has ended."""
    caption_credits: int = 0
    """For a caption that is written beside the images."""

    @property
    def credits(self) -> int:
        return self.caption_credits + sum(planned.credits for planned in self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn(Parent):
    """A turn as it stands."""

    id: TurnId
    turn_index: int
    status: TurnStatus
    waiting: WaitingEdit | None = None
    """None unless it waits."""
    failure: GenerationError | None = None
    """Why it could not begin, after it had waited."""

    @property
    def in_progress(self) -> bool:
        return self.status in IN_PROGRESS

    @property
    def conversation_id(self) -> ConversationId:
        return conversation_of_turn(self.id)

    @property
    def chosen_output(self) -> Output | None:
        """The output that the viewer continues from. Its images may have been deleted since."""
        return next((output for output in self.outputs if output.chosen), None)

    @property
    def images(self) -> tuple[Image, ...]:
        """What this turn brings along to the next one: the first image of the chosen output, else
        that of each output that has any.
        """
        chosen = self.chosen_output
        if chosen is not None and chosen.image is not None:
            return (chosen.image,)
        return tuple(output.image for output in self.outputs if output.image is not None)

    @property
    def error(self) -> GenerationError | None:
        """Why the whole turn failed: why it could not begin, or the error of its first output."""
        if self.status is not TurnStatus.FAILED:
            return None
        errors = (output.error for output in self.outputs if output.error)
        return self.failure or next(errors, None)


def as_turn(parent: Parent) -> Turn | None:
    """The parent, where it is a turn."""
    return parent if isinstance(parent, Turn) else None


class CurrentTurns(NamedTuple):
    """Asks for the present state of a conversation; where it has several pages, for one of them."""

    viewer_id: ViewerId
    conversation_id: ConversationId
    changed_since: ClusterTime | None = None
    """Turns that have changed since then are part of it."""
    after_index: int = -1
    """The index of the last turn of the page before."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class TurnsAsOf:
    """Turns of one conversation, and the cluster time since which they may have changed."""

    turns: tuple[Turn, ...]
    cluster_time: ClusterTime
    more: bool
    """Whether later turns follow, the latest among them."""
    exists: bool = True
    """Whether there is such a conversation: all its turns may have been deleted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class TurnUpdate:
    """What a subscriber is sent: a turn as it is, and at least what is new in it."""

    turn: Turn
    changed_outputs: tuple[Output, ...]
    bookmark: Bookmark
    """Where a subscriber stands once it has this update."""
    cursor: str
    """The same, as clients see it."""
