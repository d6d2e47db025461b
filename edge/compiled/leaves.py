"""Scalars and enums as expressions of Python: the usual value passes by a check of its class.

What is unusual is left to the GraphQL type itself, which may raise: then the operation is run by
graphql-core, whose errors are the ones to show.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from graphql import GraphQLEnumType, GraphQLLeafType

_MAX_INT: Final = 2**31
USUAL: Final[Mapping[str, str]] = {
    "String": "{value}.__class__ is str",
    "ID": "{value}.__class__ is str",
    "Int": f"{{value}}.__class__ is int and -{_MAX_INT} <= {{value}} < {_MAX_INT}",
    "Boolean": "{value}.__class__ is bool",
}
"""Of built-in scalars: the test that a value is answered as it is."""


class UnexpectedValue(Exception):
    """A value is not what its field promises."""


def require_list(value: Any) -> Any:
    """The value of a list. Raise for what is none."""
    if value.__class__ is tuple or value.__class__ is list:
        return value
    raise UnexpectedValue


def make_writer(kind: GraphQLLeafType) -> Callable[[Any], Any]:
    """Write any value as the type does. Raise for what it does not accept."""
    serialize = kind.serialize
    if kind.name == "DateTime":
        return serialize  # which accepts nothing else

    def write(value: object) -> object:
        if value is None:
            raise UnexpectedValue
        written = serialize(value)
        if written is None:
            raise UnexpectedValue
        return written

    return write


def enum_names(kind: GraphQLEnumType, members: type[Enum]) -> dict[object, str]:
    """The names of an enum's members, by the members and by their stored values."""
    names = {value.value: name for name, value in kind.values.items()}
    return {
        key: names[member.value]
        for member in members
        for key in (member, member.value)
        if member.value in names
    }
