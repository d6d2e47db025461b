"""References: the images that a turn can give to its models, and which of them a model is given."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.ids import ModelId
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
    model_id: ModelId,
    previous_were_named: bool,
    mentioned: Collection[int] = (),
) -> tuple[Reference, ...]:
    """Those of a turn's references that a model is given, in the turn's order.

    Where it takes fewer than there are: first those whose numbers, from 1, the message mentions,
    then the earlier outputs that the viewer named, then manual references, then what is included
    automatically. Where only one fits, the model's own earlier output comes before others of its
    rank.
    """

    def rank(numbered: tuple[int, Reference]) -> tuple[int, bool, int]:
        index, reference = numbered
        if index + 1 in mentioned:
            priority = -1
        elif reference.origin is ReferenceOrigin.MANUAL:
            priority = 1
        elif reference.origin is ReferenceOrigin.PREVIOUS_TURN and previous_were_named:
            priority = 0
        else:
            priority = 2
        return priority, limit == 1 and reference.image.model_id != model_id, index

    kept = sorted(sorted(enumerate(references), key=rank)[:limit], key=lambda numbered: numbered[0])
    return tuple(reference for _, reference in kept)


def positions_of(given: Sequence[Reference], references: Sequence[Reference]) -> dict[int, int]:
    """The places, from 1, of what a model is given, by their numbers in the turn."""
    positions: dict[int, int] = {}
    for number, reference in enumerate(references, start=1):
        if len(positions) < len(given) and reference == given[len(positions)]:
            positions[number] = len(positions) + 1
    return positions
