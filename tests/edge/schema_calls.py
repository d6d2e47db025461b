"""Calls of the schema's fields with given values: one in each argument."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)


@dataclass(frozen=True, slots=True)
class Call:
    declared: str
    """The variables' declarations."""
    text: str
    """The field with its arguments and its selection."""
    variables: Mapping[str, Any]


def a_value(kind: GraphQLInputType) -> Any:
    """One that is valid, and as short as can be."""
    match kind:
        case GraphQLNonNull():
            return a_value(kind.of_type)
        case GraphQLList():
            return [a_value(kind.of_type)]
    if is_input_object_type(kind):
        return {
            name: a_value(field.type)
            for name, field in kind.fields.items()
            if is_required_input_field(field) or name in ("selectedModels", "modelId")
        }
    if is_enum_type(kind):
        return next(iter(kind.values))
    return {"Int": 1, "Boolean": True}.get(get_named_type(kind).name, "local-ink")


def selection_of(field: GraphQLField) -> str:
    kind = get_named_type(field.type)
    if is_leaf_type(kind):
        return ""
    if not isinstance(kind, GraphQLObjectType):
        return "{ __typename }"
    shown = {name for name in ("userErrors", "credits") if name in kind.fields} or {"__typename"}
    return f"{{ {' '.join(sorted(shown)).replace('userErrors', 'userErrors { message }')} }}"


def calls_of(
    name: str, field: GraphQLField, values: Callable[[GraphQLInputType], Iterable[Any]]
) -> Iterator[Call]:
    """A call for each value of each argument; the others that are required are valid."""
    required = {
        name: a_value(argument.type)
        for name, argument in field.args.items()
        if is_required_argument(argument)
    }
    for argued, argument in field.args.items():
        for value in values(argument.type):
            variables = {**required, argued: value}
            declared = ", ".join(f"${one}: {field.args[one].type}" for one in variables)
            given = ", ".join(f"{one}: ${one}" for one in variables)
            yield Call(declared, f"{name}({given}) {selection_of(field)}", variables)
