"""Answers in the shape of OpenAI's Images API, which other providers have adopted: one object with
all images, or events with partial images and a last one with the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.outputs import Usage
from providers.failures import BAD_RESPONSE, NO_IMAGE, REFUSED
from providers.lenient import Fields, count_of, items_of, objects_of, text_of
from providers.pictures import looks_whole, whole_first
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import LeaveOut, Partial
from providers.usage import usage_of
from providers.vocabulary import word_of

PICTURES: Final = frozenset({"b64_json", "url"})
"""The fields that contain images: their bytes, or links to them."""

_PARTIAL: Final = "partial_image"
_COMPLETED: Final = "completed"
_ANSWERS: Final = ("data", "choices")
"""Fields of which every complete answer has one, even a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The differences between providers that answer in this shape."""

    error_in: Callable[[Fields], Fields | None]
    explain_error: Callable[[Fields, LeaveOut], GenerationFailed]
    is_refused: Callable[[Fields], bool]
    """Whether an answer, or one of its images, says that it has been withheld."""
    input_tokens: str
    output_tokens: str


class ImagesReply:
    """The answer to one run."""

    def __init__(
        self,
        request: GenerationRequest,
        leave_out: LeaveOut,
        *,
        words: Words,
        partial_count: int | None = None,
        seed: str | None = None,
    ) -> None:
        """`partial_count` is how many partial images were requested; `seed` is the seed that was
        sent.
        """
        self._image_count = request.image_count
        self._leave_out = leave_out
        self._words = words
        self._partial_count = partial_count
        self._seed = seed
        self._failure: GenerationFailed | None = None
        self._field_count = 0
        self._usage: Usage | None = None
        self._quality: str | None = None
        self._size: str | None = None
        self._pictures: list[bytes | str] = []
        self._of_unknown_events: list[bytes | str] = []
        """Used where no others come: an event with a name of its own need not be a result."""

    @property
    def pictures(self) -> Sequence[bytes | str]:
        # More may have come than were requested, or charged.
        return whole_first([*self._pictures, *self._of_unknown_events])[: self._image_count]

    @property
    def has_result(self) -> bool:
        return bool(self._pictures or self._of_unknown_events)

    @property
    def is_empty(self) -> bool:
        return not self.has_result and self._failure is None

    @property
    def is_whole(self) -> bool:
        return not self.is_empty

    @property
    def is_ending(self) -> bool:
        return not self.is_empty

    @property
    def has_ended(self) -> bool:
        return any(isinstance(one, str) or looks_whole(one) for one in self._pictures)

    def take(self, document: InlineJson, fields: Fields, /) -> list[Partial]:
        kind = text_of(fields.get("type"))
        self._field_count = len(fields)
        if kind.endswith(_PARTIAL) or (
            "partial_image_index" in fields and not kind.endswith(_COMPLETED)
        ):
            return self._partials_in(document, fields)
        items = objects_of(fields.get("data"))
        found = [_picture_in(document, item) for item in (*items, fields)]
        pictures = [picture for picture in found if picture]
        if pictures and fields.get("type") and not kind.endswith(_COMPLETED):
            self._of_unknown_events += pictures
        elif pictures:
            self._take_pictures(pictures, fields)
        else:
            self._look_for_reason(items, fields, is_end=kind.endswith(_COMPLETED))
        return []

    def end(self) -> None:
        """It makes no difference: a picture ends the stream too."""

    def failure(self) -> GenerationFailed:
        if self._failure is not None:
            return self._failure
        return BAD_RESPONSE.failure(f"no images, but {self._field_count} other fields")

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        images = tuple(DeliveredImage(picture, self._seed) for picture in pictures)
        return Delivery(images=images, usage=self._usage, quality=self._quality, size=self._size)

    def _partials_in(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """A partial image is a complete image that the next one replaces."""
        picture = document.take(fields.get("b64_json"))
        if picture is None or not looks_whole(picture):
            return []
        index = count_of(fields.get("partial_image_index"))
        if self._partial_count is None or index is None or index >= self._partial_count:
            return [Partial(picture)]
        return [Partial(picture, (index + 1) / (self._partial_count + 1))]

    def _take_pictures(self, pictures: Sequence[bytes | str], fields: Fields) -> None:
        self._pictures += pictures
        self._quality, self._size = word_of(fields.get("quality")), word_of(fields.get("size"))
        self._usage = usage_of(
            fields.get("usage"),
            input_name=self._words.input_tokens,
            output_names=(self._words.output_tokens,),
            total_name="total_tokens",
        )

    def _look_for_reason(self, items: Sequence[Fields], fields: Fields, *, is_end: bool) -> None:
        """Raise `GenerationFailed` where it is an error."""
        error = self._words.error_in(fields)
        if error is not None:
            raise self._words.explain_error(error, self._leave_out)
        count = len(items_of(fields.get("data"))) or int(is_end)
        if any(map(self._words.is_refused, (*items, fields))):
            self._failure = REFUSED.failure("refused inside a good answer")
        elif count:
            self._failure = BAD_RESPONSE.failure(f"{count} images without any bytes")
        elif any(name in fields for name in _ANSWERS):
            self._failure = NO_IMAGE.failure("no images")


def _picture_in(document: InlineJson, item: Fields) -> bytes | str | None:
    """The bytes of an image, or else a link to it."""
    for name in ("b64_json", "url"):
        value = item.get(name)
        picture = document.take(value)
        if picture:
            return picture
        if isinstance(value, str) and "://" in value:
            return value
    return None
