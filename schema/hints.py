"""What a field says beside its type: mostly of its resolver, for a faster execution than field by
field.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from strawberry.types.field import StrawberryField

Deliver: TypeAlias = Callable[..., Coroutine[Any, Any, None]]
"""Is called with `info`, the field's arguments, and `to`: the receiver of the events."""


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
    until: Callable[..., float] | None = None
    """Called as the resolver is: until when the answer is the same for a parent that does not
    change, in seconds since 1970. None: it may change at any time.
    """
    delivers: Deliver | None = None
    """Of a subscription: gives its events to a receiver, instead of the resolver's stream."""
    for_all: bool = False
    """Of a subscription: whether an event is answered alike, for all that receive it."""
    clamped: bool = False
    """Of an Int of an input: a number beyond 32 bits is read as the nearest that an Int can be, so
    that a rule can refuse it with a user error.
    """


_NONE: Final = Hints()
_KEY: Final = "hints"


def hints(
    *reads: str,
    constant_by: str | None = None,
    stored: bool = False,
    projects: bool = False,
    until: Callable[..., float] | None = None,
    delivers: Deliver | None = None,
    for_all: bool = False,
    clamped: bool = False,
) -> dict[str, Hints]:
    """A field's `metadata`. `reads`: the attributes of the parent that its resolver reads."""
    found = Hints(
        reads=reads,
        constant_by=constant_by,
        stored=stored,
        projects=projects,
        until=until,
        delivers=delivers,
        for_all=for_all,
        clamped=clamped,
    )
    return {_KEY: found}


def hints_of(field: StrawberryField) -> Hints:
    found = field.metadata.get(_KEY, _NONE)
    assert isinstance(found, Hints)
    return found
