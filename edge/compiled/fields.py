"""Selected fields, and what a field's declaration in the schema says of it."""

from dataclasses import dataclass
from typing import Final, cast

from graphql import FieldNode, GraphQLField, GraphQLObjectType
from strawberry.types.field import StrawberryField

from edge.compiled.selections import Uncovered, variables_of

DEFINITION: Final = "strawberry-definition"
"""The extension in which Strawberry keeps what a GraphQL type or field was made from."""


@dataclass(frozen=True, slots=True)
class Argued:
    """A field with arguments: they are the same for each value, so a run makes them once."""

    node: FieldNode
    definition: GraphQLField
    declared: StrawberryField
    variable_names: tuple[str, ...]


def argued_field(node: FieldNode, definition: GraphQLField, declared: StrawberryField) -> Argued:
    return Argued(node, definition, declared, variables_of(node.arguments or ()))


@dataclass(frozen=True, slots=True)
class Selected:
    """A selected field. `definition` None: the name of the type."""

    key: str
    nodes: list[FieldNode]
    kind: GraphQLObjectType
    definition: GraphQLField | None

    @property
    def declared(self) -> StrawberryField:
        assert self.definition is not None
        return cast("StrawberryField", self.definition.extensions[DEFINITION])


def select(kind: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> Selected:
    name = nodes[0].name.value
    if name == "__typename":
        return Selected(key, nodes, kind, None)
    definition = kind.fields.get(name)
    if definition is None:
        raise Uncovered(f"{kind.name}.{name}")
    declared = definition.extensions[DEFINITION]
    if declared.extensions or declared.permission_classes:
        raise Uncovered(f"{kind.name}.{name}")
    return Selected(key, nodes, kind, definition)
