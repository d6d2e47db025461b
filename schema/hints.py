"""Hints: metadata of a field about its resolver, from which selections are compiled."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from strawberry.types.field import StrawberryField

Deliver: TypeAlias = Callable[..., Coroutine[Any, Any, None]]
"""Called with `info`, the field's arguments, and `to`, the receiver of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    reads: tuple[str, ...] | None = None
    """The attributes of the parent that the resolver reads. None: it may read any."""
    constant_by: str | None = None
    """An attribute: within one operation, parents with the same value have the same answer."""
    stored: bool = False
    """Whether a stored parent that has an attribute of the field's name has its answer in it."""
    projects: bool = False
    """Whether the resolver reads only what `schema.context.wanted` names from the database."""
    until: Callable[..., float] | None = None
    """Called like the resolver: until when the answer stays the same for an unchanged parent, in
    seconds since 1970. None: it may change at any time.
    """
    delivers: Deliver | None = None
    """Of a subscription: delivers its events to a receiver, instead of the resolver's stream."""
    for_all: bool = False
    """Of a subscription: whether all who receive an event get the same answer."""
    clamped: bool = False
    """Of an Int of an input: a number beyond 32 bits is clamped to the nearest Int, so that a rule
    can refuse it with a user error.
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
