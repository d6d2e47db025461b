"""Companions: records that were read together with a domain value, and need not be read again.

The value remains the source of its GraphQL type: its attributes can be read as before, and its
static type is unchanged. Only a resolver that needs the companion asks for it.
"""

from typing import Final, TypeVar, cast

from domain.shown import Shown, without_scope
from domain.stored import Stored

_set: Final = object.__setattr__

Value = TypeVar("Value")
Kind = TypeVar("Kind")


class _Accompanied:
    __slots__ = ("_companion", "_value")

    def __init__(self, value: object, companion: object) -> None:
        self._value, self._companion = value, companion

    def __getattr__(self, name: str) -> object:
        return getattr(self._value, name)


def with_companion(value: Value, companion: object) -> Value:
    """The value with its companion. A value that a share shows is returned without one."""
    if isinstance(value, Stored):
        _set(value, "companion", companion)  # The value is frozen, and its slot is not a field.
        return value
    if isinstance(value, Shown):
        return value
    return cast(Value, _Accompanied(value, companion))


def companion(value: object, kind: type[Kind]) -> Kind | None:
    """The value's companion, or None where it has none of this kind."""
    found = value._companion if isinstance(value, _Accompanied) else None
    if isinstance(value, Stored):
        found = value.companion
    return found if isinstance(found, kind) else None


def without_companion(value: object) -> object:
    """The domain value itself, which tells its GraphQL type."""
    return value._value if isinstance(value, _Accompanied) else without_scope(value)
