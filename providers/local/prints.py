"""Makes one picture in small steps.

Each function is a generator that yields its progress, from 0 to 1, and returns the picture. A step
takes a fraction of a second, so that the caller can stop soon, or let other work run.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from PIL import Image

from domain.generation import GenerationRequest
from domain.models import AspectRatio, pixel_size
from providers.local.editing import collages, edits
from providers.local.editing.encodings import decode
from providers.local.editing.lettering import legible
from providers.local.editing.textures import Size, soften
from providers.local.language.instructions import Instructions
from providers.local.language.operations import Arrangement, Crop, Gather, Write
from providers.local.language.subjects import said
from providers.local.painting.scenes import compose
from providers.local.styles import Style

Steps = Generator[float, None, Image.Image]

_MAX_SCENE_PIXELS: Final = 2048 * 2048
"""Scenes are painted up to this size, and enlarged beyond it: they have no finer detail."""
_DRAFT_SIDE: Final = 512
_PAPER: Final = (238, 234, 226)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The input of one picture. The same order always gives the same picture."""

    style: Style
    words: str
    instructions: Instructions
    size: Size
    seed: str
    sources: tuple[bytes, ...]
    """The encoded pictures to edit: one, or all that are combined. Empty for a prompt alone."""
    own: bool
    """Whether the only source was made in this style."""

    @property
    def arrangement(self) -> Arrangement | None:
        gathers = [
            operation for operation in self.instructions.operations if isinstance(operation, Gather)
        ]
        return gathers[-1].arrangement if gathers and len(self.sources) > 1 else None

    def draft(self) -> "Order":
        """For a small picture that looks like this one."""
        factor = max(1.0, max(self.size) / _DRAFT_SIDE)
        width, height = (max(16, round(side / factor)) for side in self.size)
        return replace(self, size=(width, height))

    def random(self, purpose: str) -> Random:
        return Random(f"{self.style.name}\n{self.words}\n{self.seed}\n{purpose}")


def size_of(request: GenerationRequest, instructions: Instructions) -> Size:
    """The picture's size before it is rotated: as requested, unless the prompt requests a crop."""
    crops = [
        operation.ratio for operation in instructions.operations if isinstance(operation, Crop)
    ]
    if not crops:
        return request.size or pixel_size(request.aspect_ratio, request.resolution)
    ratio: AspectRatio = crops[-1]
    if request.size is None:
        return pixel_size(ratio, request.resolution)
    width, height = request.size
    if width / height > ratio.value:
        return max(16, round(height * ratio.value)), height
    return width, max(16, round(width / ratio.value))


def full_picture(order: Order) -> Steps:
    picture = yield from _begin(order)
    operations = edits.order_of_work(order.instructions.operations)
    for index, operation in enumerate(operations):
        picture = edits.apply(picture, operation, order.random(f"operation {index}"))
        yield 0.6 + 0.35 * (index + 1) / len(operations)
    picture = order.style.finish(picture, order.random("finish"), own=order.own)
    yield 1.0
    return picture


def partial_picture(draft: Image.Image, share: float) -> Image.Image:
    """A preview: the draft, blurred and pale. `share` is the progress, more than 0 and below 1."""
    blurred = soften(draft, max(0.4, 0.035 * max(draft.size) * (1 - share) ** 1.5))
    pale = Image.new("RGB", draft.size, _PAPER)
    return Image.blend(pale, blurred, 0.15 + 0.8 * share)


def _begin(order: Order) -> Steps:
    """The picture in its size and style, before the operations."""
    if not order.sources:
        return (yield from _paint(order))
    if order.arrangement is not None:
        picture = yield from _gather_sources(order, order.arrangement)
    else:
        picture = collages.cover(decode(order.sources[0], at_least=order.size), order.size)
        yield 0.3
    if not order.own:
        picture = order.style.restyle(picture, order.random("style"))
    yield 0.6
    return picture


def _paint(order: Order) -> Steps:
    width, height = order.size
    factor = min(1.0, math.sqrt(_MAX_SCENE_PIXELS / (width * height)))
    painter = order.style.painter((round(width * factor), round(height * factor)))
    seed = f"{order.style.name}\n{order.words}\n{order.seed}"
    subjects, colours = order.instructions.subjects, order.instructions.colours
    strokes = compose(subjects, colours, aspect=width / height, seed=seed)
    for index, stroke in enumerate(strokes):
        stroke(painter)
        yield 0.5 * (index + 1) / len(strokes)
    painter.finish_scene()
    yield 0.55
    if painter.picture.size == order.size:
        return painter.picture
    return painter.picture.resize(order.size, Image.Resampling.LANCZOS)


def _gather_sources(order: Order, arrangement: Arrangement) -> Steps:
    """Combine the sources. They are decoded one by one, so that only one is in memory at a time."""
    count = len(order.sources)
    if arrangement is Arrangement.BLEND:
        result = collages.cover(decode(order.sources[0], at_least=order.size), order.size)
        for before, data in enumerate(order.sources[1:], start=1):
            yield 0.5 * before / count
            result = collages.expose(result, decode(data, at_least=order.size), before=before)
        return result
    result = collages.sheet(order.size)
    for index, (data, box) in enumerate(
        zip(order.sources, collages.places(count, order.size), strict=True)
    ):
        at_least = (box[2] - box[0], box[3] - box[1])
        collages.lay(result, decode(data, at_least=at_least), box)
        yield 0.5 * (index + 1) / count
    return result


def report(instructions: Instructions, *, style: Style, gathered: bool, editing: bool) -> str:
    """What was done and what was not understood, in a friendly sentence or two."""
    done = [
        operation.said
        for operation in instructions.operations
        if gathered or not isinstance(operation, Gather)
    ]
    subjects = said(instructions.subjects)
    parts: list[str] = []
    if not editing:
        drawn = _join(subjects) if subjects else "a landscape of my own"
        parts.append(f"Drawn: {drawn}." if not done else f"Drawn: {drawn}. Done: {_join(done)}.")
    elif done:
        parts.append(f"Done: {_join(done)}.")
    if instructions.not_understood:
        quoted = _join([f'"{piece}"' for piece in instructions.not_understood])
        parts.append(
            f"I did not understand {quoted}: I am a small local model that knows plain "
            "darkroom work."
        )
    if editing and not done:
        parts.append(f"Here is the picture in the style of {style.name}.")
    if any(
        isinstance(one, Write) and legible(one.words) != one.words
        for one in instructions.operations
    ):
        parts.append("My only typeface has plain Latin letters without accents.")
    if len(instructions.operations) > len(done):
        parts.append("There was only one picture, so there was nothing to combine.")
    return " ".join(parts)


def _join(items: Sequence[str]) -> str:
    return ", ".join(items)
