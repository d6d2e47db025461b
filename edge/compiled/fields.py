"""Selected fields, and what a field's declaration in the schema says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import strawberry
from graphql import FieldNode, GraphQLField, GraphQLObjectType, VariableNode
from strawberry.types.base import StrawberryOptional
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from edge.compiled.selections import NotCompilable, variables_of

DEFINITION: Final = "strawberry-definition"
"""The extension in which Strawberry keeps what a GraphQL type or field was made from."""
_PLAIN: Final = (str, int, bool, strawberry.ID)


@dataclass(frozen=True, slots=True)
class FieldArguments:
    """A field with arguments. They are the same for each value, so a run makes them once."""

    node: FieldNode
    definition: GraphQLField
    declared: StrawberryField
    variable_names: tuple[str, ...]
    plain: Mapping[str, str] | None
    """Where each argument is a variable of a built-in scalar: the variables, by the names that the
    resolver knows them by. A value that is there, and is not null, is passed on as it is.
    """


def read_arguments(
    node: FieldNode, definition: GraphQLField, declared: StrawberryField
) -> FieldArguments:
    names = variables_of(node.arguments or ())
    return FieldArguments(
        node, definition, declared, names, _plain_arguments(node, definition, declared)
    )


def _plain_arguments(
    node: FieldNode, definition: GraphQLField, declared: StrawberryField
) -> Mapping[str, str] | None:
    values = {given.name.value: given.value for given in node.arguments or ()}
    plain_names: dict[str, str] = {}
    for argument in declared.arguments:
        name = argument.graphql_name or to_camel_case(argument.python_name)
        value, kind = values.pop(name, None), argument.type
        plain = kind.of_type if kind.__class__ is StrawberryOptional else kind
        if plain not in _PLAIN or definition.args[name].default is not None:
            return None
        if isinstance(value, VariableNode):
            plain_names[argument.python_name] = value.name.value
        elif value is not None:
            return None
    return None if values else plain_names


@dataclass(frozen=True, slots=True)
class Selected:
    """A selected field. `definition` is None for `__typename`."""

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
        raise NotCompilable(f"{kind.name}.{name}")
    declared = definition.extensions[DEFINITION]
    if declared.extensions or declared.permission_classes:
        raise NotCompilable(f"{kind.name}.{name}")
    return Selected(key, nodes, kind, definition)
