"""The cost of an introspection: how many values its answer can have, known before it runs.

The schema is known, and so is the number of its types, fields and arguments. A selection that leads
to all of them is counted for all together; one that leads to a single, unknown type counts as the
largest type. Each fragment is measured once for each place of the schema where it is spread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionSetNode,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_object_type,
)

INTROSPECTIVE: Final = frozenset({"__schema", "__type"})

_Steps: TypeAlias = Mapping[str, tuple[str, int]]
"""For each field: where it leads, and how many objects there are in total."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Objects of the schema that one selection selects together."""

    size: int
    steps: _Steps


class IntrospectionCost:
    """Measures the introspections of one document."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode]
    ) -> None:
        self._places = _find_places(schema)
        self._fragments = fragments
        self._measured: dict[tuple[str, str], int] = {}

    def measure(self, field: FieldNode) -> int:
        """The number of values below `__schema` or `__type`, at most."""
        assert field.selection_set is not None
        place = "schema" if field.name.value == "__schema" else "a type"
        return self._measure(field.selection_set, place)

    def _measure(self, selections: SelectionSetNode, name: str) -> int:
        place = self._places[name]
        values = 0
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                values += self._measure_fragment(selection.name.value, name)
            elif isinstance(selection, InlineFragmentNode):
                values += self._measure(selection.selection_set, name)
            elif isinstance(selection, FieldNode):
                to, count = place.steps.get(selection.name.value, ("", place.size))
                values += count
                if to and selection.selection_set is not None:
                    within = self._measure(selection.selection_set, to)
                    # Places that stand for a single object are measured for one object.
                    values += within * count if to in _ONE else within
        return values

    def _measure_fragment(self, fragment: str, name: str) -> int:
        key = (fragment, name)
        if key not in self._measured:
            selections = self._fragments[fragment].selection_set
            self._measured[key] = self._measure(selections, name)
        return self._measured[key]


_ONE: Final = frozenset({"a type", "a field", "an input value", "an enum value"})


@cache
def _find_places(schema: GraphQLSchema) -> Mapping[str, _Place]:
    types = schema.type_map.values()
    fields = [
        list(one.fields.values()) for one in types if is_object_type(one) or is_interface_type(one)
    ]
    all_fields = [field for of_type in fields for field in of_type]
    inputs = [len(one.fields) for one in types if is_input_object_type(one)]
    enums = [len(one.values) for one in types if is_enum_type(one)]
    interfaces = [len(one.interfaces) for one in types if is_object_type(one)]
    possible = [len(schema.get_possible_types(one)) for one in types if is_interface_type(one)]
    arguments = [len(field.args) for field in all_fields]
    directives = schema.directives
    in_directives = sum(len(one.args) for one in directives)
    return {
        "schema": _Place(
            1,
            {
                "types": ("types", len(types)),
                "directives": ("directives", len(directives)),
                "queryType": ("a type", 1),
                "mutationType": ("a type", 1),
                "subscriptionType": ("a type", 1),
            },
        ),
        "types": _Place(
            len(types),
            {
                "fields": ("fields", len(all_fields)),
                "inputFields": ("input fields", sum(inputs)),
                "enumValues": ("enum values", sum(enums)),
                "interfaces": ("a type", sum(interfaces)),
                "possibleTypes": ("a type", sum(possible)),
                "ofType": ("a type", len(types)),
            },
        ),
        "fields": _inputs_of("arguments", sum(arguments), len(all_fields)),
        "arguments": _values(sum(arguments)),
        "input fields": _values(sum(inputs)),
        "enum values": _Place(sum(enums), {}),
        "directives": _Place(
            len(directives),
            {
                "args": ("directives' arguments", in_directives),
                "locations": ("", sum(len(one.locations) for one in directives)),
            },
        ),
        "directives' arguments": _values(in_directives),
        "a type": _Place(
            1,
            {
                "fields": ("a field", _most(map(len, fields))),
                "inputFields": ("an input value", _most(inputs)),
                "enumValues": ("an enum value", _most(enums)),
                "interfaces": ("a type", _most(interfaces)),
                "possibleTypes": ("a type", _most(possible)),
                "ofType": ("a type", 1),
            },
        ),
        "a field": _inputs_of("an input value", _most(arguments), 1),
        "an input value": _values(1),
        "an enum value": _Place(1, {}),
    }


def _inputs_of(arguments: str, count: int, size: int) -> _Place:
    return _Place(size, {"args": (arguments, count), "type": ("a type", size)})


def _values(size: int) -> _Place:
    return _Place(size, {"type": ("a type", size)})


def _most(counts: Iterable[int]) -> int:
    return max(counts, default=0)
