"""Variables that need no coercion, because each is what its built-in type accepts as it is.

They are most: ids, texts, numbers and switches. Whatever else there is, graphql-core coerces, and
says what is wrong with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
)
from graphql.execution.get_variable_signature import (
    GraphQLVariableSignature,
    get_variable_signature,
)
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values

_LIMIT: Final = 2**31
_IMMUTABLE: Final = (str, int, float, bool, type(None))
_PASSES: Final[Mapping[str, Callable[[object], bool]]] = {
    "ID": lambda value: value.__class__ is str,
    "String": lambda value: value.__class__ is str,
    "Boolean": lambda value: value.__class__ is bool,
    "Int": lambda value: value.__class__ is int and -_LIMIT <= value < _LIMIT,
}
"""Of built-in scalars: whether a value is accepted as it is."""


@dataclass(frozen=True, slots=True)
class _Variable:
    signature: GraphQLVariableSignature
    passes: Callable[[object], bool]
    is_nullable: bool
    default: object
    """As it is coerced; Undefined where there is none."""
    missing: VariableValueSource


class PlainVariables:
    """The variables of one operation whose types are all built-in scalars."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        found = [_read(schema, definition) for definition in operation.variable_definitions or ()]
        self._variables = [variable for variable in found if variable is not None]
        self._covers = len(self._variables) == len(found)

    def coerce(self, given: Mapping[str, Any]) -> VariableValues | None:
        """None where graphql-core has to look at them."""
        if not self._covers:
            return None
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for variable in self._variables:
            name = variable.signature.name
            value = given.get(name, Undefined)
            if value is Undefined:
                if variable.default is not Undefined:
                    coerced[name] = variable.default
                elif not variable.is_nullable:
                    return None
                sources[name] = variable.missing
            elif variable.passes(value) or (value is None and variable.is_nullable):
                coerced[name] = value
                sources[name] = VariableValueSource(variable.signature, value)
            else:
                return None
        return VariableValues(sources, coerced)


def _read(schema: GraphQLSchema, definition: Any) -> _Variable | None:
    signature = get_variable_signature(schema, definition)
    if not isinstance(signature, GraphQLVariableSignature):
        return None
    kind = signature.type
    is_nullable = not isinstance(kind, GraphQLNonNull)
    named = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    passes = _PASSES.get(named.name) if isinstance(named, GraphQLScalarType) else None
    default: object = Undefined
    if signature.default is not None:
        values = get_variable_values(schema, [definition], {})
        default = Undefined if isinstance(values, list) else values.coerced.get(signature.name)
        if not isinstance(default, _IMMUTABLE):
            return None
    if passes is None:
        return None
    return _Variable(signature, passes, is_nullable, default, VariableValueSource(signature))
