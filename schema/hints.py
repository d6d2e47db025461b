"""What a field says of its resolver beside its type, for a faster execution than field by field."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from strawberry.types.field import StrawberryField

from domain.stored import Wanted

LATER: Final = object()
"""Instead of an answer: it has to be awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    reads: tuple[str, ...] | None = None
    """The attributes of the parent that the resolver reads. None: any."""
    constant_by: str | None = None
    """Within one operation, the answer is the same for parents with the same attribute."""
    at_once: Callable[[Any], object] | None = None
    """Of a resolver that waits: finds the answer in what was read with the parent, or LATER."""


_NONE: Final = Hints()
_KEY: Final = "hints"


def hints(
    *reads: str,
    constant_by: str | None = None,
    at_once: Callable[[Any], object] | None = None,
) -> dict[str, Hints]:
    """A field's `metadata`."""
    return {_KEY: Hints(reads=reads, constant_by=constant_by, at_once=at_once)}


def hints_of(field: StrawberryField) -> Hints:
    found = field.metadata.get(_KEY, _NONE)
    assert isinstance(found, Hints)
    return found


__all__ = ["LATER", "Hints", "Wanted", "hints", "hints_of"]
