"""The domain's enums as GraphQL enums, each value with a description."""

from enum import Enum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

Kind = TypeVar("Kind", bound=type[Enum])


def described_enum(kind: Kind, description: str, /, **values: str) -> Kind:
    """Make the enum a GraphQL one. `values` describe each member, by name."""
    enum = strawberry.enum(kind, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values.pop(value.name)
    assert not values, f"{kind.__name__} has no {', '.join(values)}."
    return enum
