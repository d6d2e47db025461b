"""What a field says of its resolver beside its type, for a faster execution than field by field."""

from dataclasses import dataclass
from typing import Final

from strawberry.types.field import StrawberryField


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    reads: tuple[str, ...] | None = None
    """None: any."""
    constant_by: str | None = None
    """Within one operation, the answer is the same for parents with the same attribute."""
    stored: bool = False
    """Whether a stored parent that has an attribute of the field's name has its answer in it."""
    projects: bool = False
    """Whether the resolver reads no more of the database than `schema.context.wanted` says."""


_NONE: Final = Hints()
_KEY: Final = "hints"


def hints(
    *reads: str,
    constant_by: str | None = None,
    stored: bool = False,
    projects: bool = False,
) -> dict[str, Hints]:
    """A field's `metadata`. `reads`: the attributes of the parent that its resolver reads."""
    return {_KEY: Hints(reads=reads, constant_by=constant_by, stored=stored, projects=projects)}


def hints_of(field: StrawberryField) -> Hints:
    found = field.metadata.get(_KEY, _NONE)
    assert isinstance(found, Hints)
    return found
