"""References: the images that a turn can give to its models, and which of them a model receives."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.ids import ImageId, ModelId
from domain.images import Image

MAX_MANUAL_REFERENCES: Final = 10


class ReferenceOrigin(StrEnum):
    SOURCE = "SOURCE"
    PREVIOUS_TURN = "PREVIOUS_TURN"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class Reference:
    image: Image
    origin: ReferenceOrigin


def choose_references(
    references: Sequence[Reference],
    *,
    limit: int,
    own_model_ids: Sequence[ModelId],
    previous_were_named: bool,
    mentioned: Collection[int] = (),
) -> tuple[Reference, ...]:
    """The references of a turn that a model receives: the base first, then the others in the turn's
    order.

    The base is the image that is edited: the earlier output that the viewer named, or that of the
    previous turn, or the source image. Where there are several outputs it is the model's own, else
    the first one. `own_model_ids` are the ids under which the model has made images, the closest
    one first.

    If the model takes fewer than there are, it receives, in this order: what the message mentions
    (by number, from 1), the base, the earlier outputs that the viewer named, manual references, and
    what is included automatically.
    """
    base = _find_base(references, own_model_ids)

    def rank(index: int) -> int:
        origin = references[index].origin
        if index + 1 in mentioned:
            return 0
        if index == base:
            return 1
        if origin is ReferenceOrigin.PREVIOUS_TURN and previous_were_named:
            return 2
        return 3 if origin is ReferenceOrigin.MANUAL else 4

    kept = sorted(range(len(references)), key=rank)[:limit]
    kept.sort(key=lambda index: (index != base, index))
    return tuple(references[index] for index in kept)


def _find_base(references: Sequence[Reference], own_model_ids: Sequence[ModelId]) -> int | None:
    """The index of the base; None if all are manual references."""

    def distance(index: int) -> int:
        made_by = references[index].image.model_id
        return own_model_ids.index(made_by) if made_by in own_model_ids else len(own_model_ids)

    candidates = (
        index
        for index, reference in enumerate(references)
        if reference.origin is not ReferenceOrigin.MANUAL
    )
    return min(candidates, key=distance, default=None)


def positions_of(given: Sequence[Reference], references: Sequence[Reference]) -> dict[int, int]:
    """The positions, from 1, of what a model receives, by their numbers in the turn."""
    positions: dict[ImageId, int] = {}
    for position, reference in enumerate(given, start=1):
        positions.setdefault(reference.image.id, position)
    return {
        number: positions[reference.image.id]
        for number, reference in enumerate(references, start=1)
        if reference.image.id in positions
    }
