"""Numbers beyond 32 bits in variables: an Int cannot hold them, but the size of a file may need
them.

An input field with the hint `clamped` lets a rule refuse such a number as a user error; without the
hint, the type refuses it.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    GRAPHQL_MAX_INT,
    GRAPHQL_MIN_INT,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    get_named_type,
    type_from_ast,
)

from edge.compiled.fields import DEFINITION
from schema.hints import hints_of


def clamp_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The variables of a valid operation, with the fields that may be clamped clamped."""
    clamped = dict(given)
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        kind = get_named_type(type_from_ast(schema, definition.type))
        if name in clamped and isinstance(kind, GraphQLInputObjectType):
            clamped[name] = _clamp_inputs(clamped[name], kind)
    return clamped


def _clamp_inputs(value: object, kind: GraphQLInputObjectType) -> object:
    """An input, or a list of them."""
    if isinstance(value, list):
        return [_clamp_inputs(one, kind) for one in value]
    if not isinstance(value, dict):
        return value
    fields = kind.fields
    return {
        name: _clamp_field(one, fields[name]) if name in fields else one
        for name, one in value.items()
    }


def _clamp_field(value: object, field: GraphQLInputField) -> object:
    kind = get_named_type(field.type)
    if isinstance(kind, GraphQLInputObjectType):
        return _clamp_inputs(value, kind)
    if hints_of(field.extensions[DEFINITION]).clamped and _is_whole(value):
        return max(GRAPHQL_MIN_INT, min(GRAPHQL_MAX_INT, value))  # type: ignore[call-overload]
    return value


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)
