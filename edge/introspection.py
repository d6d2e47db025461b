"""The cost of an introspection: how many values its answer can have, calculated before it runs.

The schema is known, and so is the number of its types, fields and arguments. A selection that leads
to all of them is counted for all together; one that leads to a single, unknown type counts as the
largest type. Each fragment is measured once for each place of the schema where it is spread.
"""

from collections.abc import Iterable, Mapping, Sequence
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
                    values += within * count if to in _SINGLE_OBJECTS else within
        return values

    def _measure_fragment(self, fragment: str, name: str) -> int:
        key = (fragment, name)
        if key not in self._measured:
            selections = self._fragments[fragment].selection_set
            self._measured[key] = self._measure(selections, name)
        return self._measured[key]


_SINGLE_OBJECTS: Final = frozenset({"a type", "a field", "an input value", "an enum value"})


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a schema has: for each of its types, or in total."""

    types: int
    fields: Sequence[int]
    arguments: Sequence[int]
    """For each field."""
    inputs: Sequence[int]
    enums: Sequence[int]
    interfaces: Sequence[int]
    possible: Sequence[int]
    directives: int
    directive_arguments: int
    directive_locations: int

    @classmethod
    def of(cls, schema: GraphQLSchema) -> "_Counts":
        types, directives = schema.type_map.values(), schema.directives
        with_fields = [one for one in types if is_object_type(one) or is_interface_type(one)]
        return cls(
            types=len(types),
            fields=[len(one.fields) for one in with_fields],
            arguments=[len(field.args) for one in with_fields for field in one.fields.values()],
            inputs=[len(one.fields) for one in types if is_input_object_type(one)],
            enums=[len(one.values) for one in types if is_enum_type(one)],
            interfaces=[len(one.interfaces) for one in types if is_object_type(one)],
            possible=[
                len(schema.get_possible_types(one)) for one in types if is_interface_type(one)
            ],
            directives=len(directives),
            directive_arguments=sum(len(one.args) for one in directives),
            directive_locations=sum(len(one.locations) for one in directives),
        )


@cache
def _find_places(schema: GraphQLSchema) -> Mapping[str, _Place]:
    counts = _Counts.of(schema)
    return _places_of_all(counts) | _places_of_one(counts)


def _places_of_all(counts: _Counts) -> dict[str, _Place]:
    """Where a selection leads to everything of a kind."""
    return {
        "schema": _Place(
            1,
            {
                "types": ("types", counts.types),
                "directives": ("directives", counts.directives),
                "queryType": ("a type", 1),
                "mutationType": ("a type", 1),
                "subscriptionType": ("a type", 1),
            },
        ),
        "types": _Place(
            counts.types,
            {
                "fields": ("fields", sum(counts.fields)),
                "inputFields": ("input fields", sum(counts.inputs)),
                "enumValues": ("enum values", sum(counts.enums)),
                "interfaces": ("a type", sum(counts.interfaces)),
                "possibleTypes": ("a type", sum(counts.possible)),
                "ofType": ("a type", counts.types),
            },
        ),
        "fields": _inputs_of("arguments", sum(counts.arguments), sum(counts.fields)),
        "arguments": _values(sum(counts.arguments)),
        "input fields": _values(sum(counts.inputs)),
        "enum values": _Place(sum(counts.enums), {}),
        "directives": _Place(
            counts.directives,
            {
                "args": ("directives' arguments", counts.directive_arguments),
                "locations": ("", counts.directive_locations),
            },
        ),
        "directives' arguments": _values(counts.directive_arguments),
    }


def _places_of_one(counts: _Counts) -> dict[str, _Place]:
    """Where a selection leads to one type that can be any: it counts as the largest."""
    return {
        "a type": _Place(
            1,
            {
                "fields": ("a field", _maximum(counts.fields)),
                "inputFields": ("an input value", _maximum(counts.inputs)),
                "enumValues": ("an enum value", _maximum(counts.enums)),
                "interfaces": ("a type", _maximum(counts.interfaces)),
                "possibleTypes": ("a type", _maximum(counts.possible)),
                "ofType": ("a type", 1),
            },
        ),
        "a field": _inputs_of("an input value", _maximum(counts.arguments), 1),
        "an input value": _values(1),
        "an enum value": _Place(1, {}),
    }


def _inputs_of(arguments: str, count: int, size: int) -> _Place:
    return _Place(size, {"args": (arguments, count), "type": ("a type", size)})


def _values(size: int) -> _Place:
    return _Place(size, {"type": ("a type", size)})


def _maximum(counts: Iterable[int]) -> int:
    return max(counts, default=0)
