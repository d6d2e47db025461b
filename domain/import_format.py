"""Reads what `export_format` has written, from archives that anybody may have made.

Every value is of the type and within the bounds that our own records have, or the export is
refused. IDs are never taken over: each old one stands for a new one, which is always the same for
one import, so that an import that is done twice makes nothing twice.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

from domain.conversations import MAX_TITLE_LENGTH
from domain.errors import GenerationErrorCode
from domain.export_format import FORMAT, VERSION
from domain.ids import (
    ConversationId,
    ImageId,
    ImportId,
    ModelId,
    OutputId,
    ViewerId,
    as_turn_id,
    conversation_id_of,
    conversation_of_turn,
    image_id_of,
    index_of_turn,
    output_id_of,
    parent_of_output,
    parse_conversation_id,
    parse_image_id,
    parse_output_id,
    turn_id_of,
)
from domain.images import EXTENSIONS, DigitalSourceType, Drift, Image, ImageOrigin
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.outputs import MAX_COUNT, UNFINISHED, GenerationError, Output, OutputStatus, Usage
from domain.parents import MAX_PROMPT_LENGTH, TurnOptions
from domain.references import Reference, ReferenceOrigin
from domain.turns import Turn, TurnStatus

Member = TypeVar("Member", bound=StrEnum)
Value = TypeVar("Value")

MAX_CONVERSATIONS: Final = 1_000
MAX_PARTS: Final = 10_000
MAX_IMAGE_BYTES: Final = 64_000_000
_MAX_TURNS: Final = 10_000
_MAX_OUTPUTS: Final = 20
_MAX_IMAGES: Final = 20
"""Of one output."""
_MAX_REFERENCES: Final = 200
_MAX_TEXT: Final = 20_000
_WORD: Final = re.compile(r"[\w.:/ +@-]{1,200}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class NotAnExport(Exception):
    """The message may be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedImage:
    """An image before its bytes are read."""

    id: ImageId
    file: str
    sha256: str
    origin: ImageOrigin
    model_id: ModelId | None
    seed: str | None
    output_id: OutputId | None
    source: DigitalSourceType | None
    prompt: str | None
    made_from: tuple[ImageId, ...]
    favourite: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConversation:
    """A conversation before its turns are read."""

    id: ConversationId
    title: str
    title_was_given: bool
    source_image_id: ImageId | None
    aspect_ratio: AspectRatio
    resolution: Resolution
    created_at: datetime
    turn_parts: Sequence[str]


class _Facts:
    """An object of JSON, of which each value is what is expected, or raises NotAnExport."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise NotAnExport(f"{what} is not an object.")
        self._value: Mapping[str, object] = value
        self._what = what

    def text(self, name: str, *, most: int = _MAX_TEXT) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > most or _UNSTORABLE.search(value):
            raise self._wrong(name)
        return value

    def word(self, name: str) -> str:
        value = self.text(name)
        if _WORD.fullmatch(value) is None:
            raise self._wrong(name)
        return value

    def number(self, name: str, *, least: int = 0, most: int = MAX_COUNT) -> int:
        value = self._value.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(name)
        return value

    def fraction(self, name: str) -> float:
        value = self._value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(name)
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._value.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def instant(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(name, most=40))
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong(name) from None

    def member(self, name: str, kind: type[Member]) -> Member:
        try:
            return kind(self.text(name))
        except ValueError:
            raise self._wrong(name) from None

    def ratio(self, name: str) -> AspectRatio:
        try:
            return AspectRatio.parse(self.text(name, most=7))
        except ValueError:
            raise self._wrong(name) from None

    def list(self, name: str, *, most: int) -> Sequence[object]:
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name)
        return value

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        found = self.list(name, most=most)
        return tuple(_Facts({name: one}, self._what).word(name) for one in found)

    def inside(self, name: str) -> "_Facts":
        return _Facts(self._value.get(name), f"{self._what}: {name}")

    def optional(self, name: str, read: Callable[[str], Value]) -> Value | None:
        return None if self._value.get(name) is None else read(name)

    def _wrong(self, name: str) -> NotAnExport:
        return NotAnExport(f"{self._what}: {name} is not valid.")


@dataclass(frozen=True, slots=True)
class ImportReader:
    """Reads the facts of one import."""

    import_id: ImportId
    owner_id: ViewerId
    _conversations: set[ConversationId] = field(default_factory=set)

    def read_manifest(
        self, manifest: object
    ) -> tuple[Sequence[ImportedConversation], Sequence[str]]:
        """The conversations, and the names of the parts that have the images' facts."""
        facts = _Facts(manifest, "The manifest")
        if facts.text("format") != FORMAT or facts.number("version") != VERSION:
            raise NotAnExport("This is not an export that can be read here.")
        conversations = [
            self._read_conversation(one)
            for one in facts.list("conversations", most=MAX_CONVERSATIONS)
        ]
        if not conversations:
            raise NotAnExport("The export has no conversation.")
        if len({one.id for one in conversations}) != len(conversations):
            raise NotAnExport("The export has a conversation twice.")
        self._conversations.update(one.id for one in conversations)
        return conversations, facts.texts("images", most=MAX_PARTS)

    def read_images(self, part: object) -> Sequence[ImportedImage]:
        """Those that have a file."""
        facts = _Facts(part, "A part with images")
        images = (self._read_image(one) for one in facts.list("images", most=MAX_PARTS))
        return [image for image in images if image is not None]

    def read_turns(
        self,
        part: object,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
        *,
        begin: int,
    ) -> Sequence[Turn]:
        """Turns in their order, the first one with this index or a later one."""
        facts = _Facts(part, "A part with turns")
        turns = [
            self._read_turn(one, conversation, images)
            for one in facts.list("turns", most=_MAX_TURNS - begin)
        ]
        indexes = [turn.turn_index for turn in turns]
        # There are gaps where turns were deleted.
        if not turns or indexes[0] < begin or indexes != sorted(set(indexes)):
            raise NotAnExport("The turns of a conversation are not in order.")
        return turns

    def _read_conversation(self, value: object) -> ImportedConversation:
        facts = _Facts(value, "A conversation")
        return ImportedConversation(
            id=self._conversation_id(facts.text("id")),
            title=facts.text("title", most=MAX_TITLE_LENGTH),
            title_was_given=facts.flag("titleWasGiven"),
            source_image_id=facts.optional("sourceImageId", self._image_id_in(facts)),
            aspect_ratio=facts.ratio("aspectRatio"),
            resolution=facts.member("resolution", Resolution),
            created_at=facts.instant("createdAt"),
            turn_parts=facts.texts("turns", most=MAX_PARTS),
        )

    def _read_image(self, value: object) -> ImportedImage | None:
        facts = _Facts(value, "An image")
        file = facts.optional("file", facts.word)
        if file is None:
            return None
        digest = facts.text("sha256", most=64)
        if _DIGEST.fullmatch(digest) is None or facts.text("contentType") not in EXTENSIONS:
            raise NotAnExport("An image has no valid digest or type.")
        return ImportedImage(
            id=self._image_id(facts.text("id")),
            file=file,
            sha256=digest,
            origin=facts.member("origin", ImageOrigin),
            model_id=_model_id(facts.optional("model", facts.word)),
            seed=facts.optional("seed", facts.word),
            output_id=self._output_id(facts.optional("outputId", facts.word)),
            source=facts.optional(
                "digitalSourceType", lambda name: facts.member(name, DigitalSourceType)
            ),
            prompt=facts.optional("prompt", facts.text),
            made_from=tuple(
                self._image_id(one) for one in facts.texts("madeFrom", most=_MAX_REFERENCES)
            ),
            favourite=facts.flag("favourite"),
            created_at=facts.instant("createdAt"),
        )

    def _read_turn(
        self,
        value: object,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
    ) -> Turn:
        facts = _Facts(value, "A turn")
        index = facts.number("turnIndex", most=_MAX_TURNS - 1)
        turn_id = turn_id_of(conversation.id, index)
        outputs = tuple(
            self._read_output(one, conversation, index, images)
            for one in facts.list("outputs", most=_MAX_OUTPUTS)
        )
        if not outputs or len({one.slot for one in outputs}) != len(outputs):
            raise NotAnExport("A turn has no outputs, or two of one slot.")
        if sum(one.chosen for one in outputs) > 1:
            raise NotAnExport("Two outputs of one turn are chosen.")
        created_at = facts.instant("createdAt")
        return Turn(
            id=turn_id,
            owner_id=self.owner_id,
            turn_index=index,
            user_message=facts.text("userMessage", most=MAX_PROMPT_LENGTH),
            selected_model_ids=tuple(
                ModelId(one) for one in facts.texts("selectedModels", most=_MAX_OUTPUTS)
            ),
            references=self._references(facts, images),
            previous_were_named=facts.flag("previousWereNamed"),
            aspect_ratio=facts.ratio("aspectRatio"),
            resolution=facts.member("resolution", Resolution),
            options=self._read_options(facts.inside("options"), images),
            status=_status_of(outputs),
            outputs=outputs,
            version=1,
            created_at=created_at,
            updated_at=facts.optional("updatedAt", facts.instant) or created_at,
            completed_at=facts.optional("completedAt", facts.instant) or created_at,
        )

    def _read_output(
        self,
        value: object,
        conversation: ImportedConversation,
        turn_index: int,
        images: Mapping[ImageId, Image],
    ) -> Output:
        facts = _Facts(value, "An output")
        slot = facts.number("slot", least=1, most=99)
        delivered = tuple(
            images[image_id]
            for name in facts.texts("images", most=_MAX_IMAGES)
            if (image_id := self._image_id(name)) in images
        )
        status = facts.member("status", OutputStatus)
        if status in UNFINISHED:
            status = OutputStatus.COMPLETED if delivered else OutputStatus.CANCELLED
        queued_at = facts.instant("queuedAt")
        return Output(
            parent_id=turn_id_of(conversation.id, turn_index),
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
            references=self._references(facts, images),
            drift=_read_drift(facts.optional("drift", facts.inside)),
            provider=facts.optional("provider", facts.word),
            quality=facts.optional("quality", facts.word),
            size=facts.optional("size", facts.word),
            text=facts.optional("text", facts.text),
            usage=_read_usage(facts.optional("usage", facts.inside)),
            error=_read_error(facts, status),
            runs=(),
            credits_reserved=0,
            credits_charged=0,
            chosen=facts.optional("chosen", facts.flag) or False,
            queued_at=queued_at,
            started_at=facts.optional("startedAt", facts.instant),
            completed_at=facts.optional("completedAt", facts.instant) or queued_at,
        )

    def _references(self, facts: _Facts, images: Mapping[ImageId, Image]) -> tuple[Reference, ...]:
        """Those whose images have files."""
        found = []
        for value in facts.list("references", most=_MAX_REFERENCES):
            one = _Facts(value, "A reference")
            image_id = self._image_id(one.text("imageId"))
            if image_id in images:
                origin = one.member("origin", ReferenceOrigin)
                found.append(Reference(images[image_id], origin))
        return tuple(found)

    def _read_options(self, facts: _Facts, images: Mapping[ImageId, Image]) -> TurnOptions:
        mask_id = facts.optional("maskImageId", self._image_id_in(facts))
        return _read_options(facts, images.get(mask_id) if mask_id else None)

    def _image_id_in(self, facts: _Facts) -> Callable[[str], ImageId]:
        return lambda name: self._image_id(facts.text(name))

    def _conversation_id(self, old: str) -> ConversationId:
        if parse_conversation_id(old) is None:
            raise NotAnExport("A conversation's id is not valid.")
        return conversation_id_of(self.import_id, old)

    def _output_id(self, old: str | None) -> OutputId | None:
        """None where what made the image is not part of the export."""
        parsed = parse_output_id(old) if old is not None else None
        if parsed is None:
            return None
        parent_id, slot = parent_of_output(parsed)
        turn_id = as_turn_id(parent_id)
        if turn_id is None:
            return None
        conversation_id = self._conversation_id(conversation_of_turn(turn_id))
        if conversation_id not in self._conversations:
            return None
        return output_id_of(turn_id_of(conversation_id, index_of_turn(turn_id)), slot)

    def _image_id(self, old: str) -> ImageId:
        if parse_image_id(old) is None:
            raise NotAnExport("An image's id is not valid.")
        return image_id_of(self.import_id, old)


def _read_options(facts: _Facts, mask: Image | None) -> TurnOptions:
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


def _read_drift(facts: _Facts | None) -> Drift | None:
    if facts is None:
        return None
    outside = facts.optional("outsideMask", facts.fraction)
    return Drift(changed=facts.fraction("changed"), outside_mask=outside)


def _read_usage(facts: _Facts | None) -> Usage | None:
    if facts is None:
        return None
    return Usage(
        facts.optional("inputTokens", facts.number),
        facts.optional("outputTokens", facts.number),
        facts.optional("totalTokens", facts.number),
    )


def _read_error(facts: _Facts, status: OutputStatus) -> GenerationError | None:
    if status is not OutputStatus.FAILED:
        return None
    error = facts.optional("error", facts.inside)
    if error is None:
        return GenerationError(GenerationErrorCode.INTERNAL, retryable=True)
    return GenerationError(error.member("code", GenerationErrorCode), error.flag("retryable"))


def _status_of(outputs: Iterable[Output]) -> TurnStatus:
    """As `execution.rules.derive_status`, of outputs that have all ended."""
    statuses = {output.status for output in outputs}
    for status in (TurnStatus.COMPLETED, TurnStatus.CANCELLED):
        if OutputStatus(status.value) in statuses:
            return status
    return TurnStatus.FAILED


def _model_id(name: str | None) -> ModelId | None:
    return ModelId(name) if name is not None else None
