"""How OpenAI's image models want to be asked, and how they answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.models import SQUARE, AspectRatio, ImageFormat, Quality, pixel_size
from domain.outputs import Usage
from providers.endpoints import endpoint_of
from providers.failures import bad
from providers.multipart import Multipart
from providers.openai.backends import Door
from providers.openai.failures import error_in, is_filtered, of_error
from providers.references import Reference
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Fields, LeaveOut, Partial, Question
from providers.usage import usage_of

PICTURES: Final = frozenset({"b64_json"})
"""The fields that hold pictures."""
MAX_PARTIAL_IMAGES: Final = 3

_FORMATS: Final = {
    ImageFormat.PNG: "png",
    ImageFormat.JPEG: "jpeg",
    ImageFormat.WEBP: "webp",
}
_QUALITIES: Final = {Quality.LOW: "low", Quality.MEDIUM: "medium", Quality.HIGH: "high"}
_USUAL_QUALITY: Final = "medium"
"""OpenAI would choose by itself, and Azure the dearest."""
_PRESETS: Final = {
    SQUARE: "1024x1024",
    AspectRatio(4, 3): "1536x1024",
    AspectRatio(3, 4): "1024x1536",
}
"""There are three sizes, and those that are not square are really 3:2 and 2:3."""


def _preset(request: GenerationRequest) -> str:
    return _PRESETS[request.aspect_ratio]


def _pixels(request: GenerationRequest) -> str:
    width, height = request.size or pixel_size(request.aspect_ratio, request.resolution)
    return f"{width}x{height}"


MODELS: Final[Mapping[str, Callable[[GenerationRequest], str]]] = {
    "gpt-image-1": _preset,
    "gpt-image-1.5": _preset,
    "gpt-image-2": _pixels,
    "gpt-image-2.5-sunburst": _pixels,
    "gpt-image-2.5-flare": _pixels,
}
"""Each model, and how it is told a picture's size."""


def partial_images_of(request: GenerationRequest) -> int:
    """How many partial images are asked for; 0 where the answer is not to be a stream.

    The events of a stream do not say to which of several pictures they belong. Each partial image
    is charged.
    """
    return min(request.preview_count, MAX_PARTIAL_IMAGES) if request.image_count == 1 else 0


def question_of(
    request: GenerationRequest, references: Sequence[Reference], *, backend: Door
) -> Question:
    """A generation, or with references an edit."""
    model, size = endpoint_of(request, MODELS)
    fields: dict[str, str | int | bool] = {
        "model": backend.model_name(model),
        "prompt": request.prompt,
        "n": request.image_count,
        "size": size(request),
        "quality": _QUALITIES[request.quality] if request.quality else _USUAL_QUALITY,
    }
    if request.format is not None:
        fields["output_format"] = _FORMATS[request.format]
    partial_images = partial_images_of(request)
    if partial_images:
        fields |= {"stream": True, "partial_images": partial_images}
    if not references:
        return Question.of(fields)
    form = Multipart()
    for name, value in fields.items():
        form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
    for number, reference in enumerate(references, 1):
        # Without a file's name, its content type is passed over, and the file refused.
        ending = reference.content_type.removeprefix("image/")
        form.add_file(
            "image[]",
            reference.data,
            file_name=f"{number}.{ending}",
            content_type=reference.content_type,
        )
    return Question(parts=form.parts, content_type=form.content_type)


class OpenAIReply:
    """What one run has been answered with: an object with all its pictures, or events."""

    def __init__(self, request: GenerationRequest, leave_out: LeaveOut) -> None:
        self._image_count = request.image_count
        self._partial_images = partial_images_of(request)
        self._leave_out = leave_out
        self._pictures: list[bytes] = []
        self._usage: Usage | None = None

    @property
    def is_empty(self) -> bool:
        return not self._pictures

    @property
    def has_ended(self) -> bool:
        return not self.is_empty

    def take(self, document: InlineJson, fields: Fields) -> list[Partial]:
        error = error_in(fields)
        if error is not None:
            raise of_error(error, self._leave_out)
        kind = str(fields.get("type", ""))
        if kind.endswith(".partial_image"):
            return self._partials_in(document, fields)
        if kind.endswith(".completed"):
            self._take_pictures(document, fields, [fields])
        elif not kind:
            self._take_pictures(document, fields, fields.get("data"))
        return []

    def delivery(self) -> Delivery:
        if not self._pictures:
            raise bad("an answer of a type that is not known")
        pictures = self._pictures[: self._image_count]
        return Delivery(images=tuple(map(DeliveredImage, pictures)), usage=self._usage)

    def _partials_in(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """A partial image is a whole picture that the next one replaces."""
        index, picture = fields.get("partial_image_index"), document.take(fields.get("b64_json"))
        if not picture:
            return []
        if isinstance(index, int) and 0 <= index < self._partial_images:
            return [Partial(picture, (index + 1) / (self._partial_images + 1))]
        return [Partial(picture)]

    def _take_pictures(self, document: InlineJson, fields: Fields, items: object) -> None:
        """Raise `GenerationFailed` where there is none among them."""
        if not isinstance(items, list):
            raise bad(f"no pictures, but {len(fields)} other fields")
        if not items:
            raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True, detail="data: []")
        found = [item for item in items if isinstance(item, dict)]
        taken = [document.take(item.get("b64_json")) for item in found]
        self._pictures = [picture for picture in taken if picture]
        if not self._pictures and any(map(is_filtered, [*found, fields])):
            raise GenerationFailed(
                GenerationErrorCode.CONTENT_REFUSED,
                retryable=False,
                detail="content_filter_results",
            )
        if not self._pictures:
            raise bad("items without pictures")
        self._usage = usage_of(
            fields.get("usage"),
            input_name="input_tokens",
            output_names=("output_tokens",),
            total_name="total_tokens",
        )
