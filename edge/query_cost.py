"""Measures the cost of an operation before anything is read: objects, values, text, depth, aliases.

Page sizes multiply down the tree, so a small document cannot ask for millions of objects. What is
stored inside another record, such as a turn's outputs, is read with it and counts nothing; an edge
that has to be looked up counts one, times the lists that it is in. Each fragment is measured once,
however often it is spread. Values are the leaves and objects of an answer, text is the characters
in arguments: both multiply in the same way, stored lists included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from domain.conversations import MAX_DELETED_LISTED
from domain.pages import DEFAULT_PAGE_SIZE
from domain.shares import MAX_SHARES
from edge.introspection import INTROSPECTIVE, IntrospectionCost
from edge.query_limits import Cost
from edge.variable_sizes import measure_value

_PAGE_SIZES: Final = ("first", "last")
_ASSUMED_LIST_LENGTH: Final = 3
"""The assumed length of an embedded list whose items each lead to a look-up."""
_LONG_LISTS: Final = {
    "Query.models": 100,
    "Viewer.modelStats": 100,
    "ModelStats.against": 20,
    "Viewer.shares": MAX_SHARES,
    "Viewer.deletedConversations": MAX_DELETED_LISTED,
}
"""The assumed lengths of longer lists, for the number of values."""
LOADED_EDGES: Final = frozenset(
    {
        "Conversation.latestTurn",
        "Image.madeFrom",
        "Image.output",
        "Image.post",
        "Image.turn",
        "ImageModel.editModel",
        "ImageModel.replacement",
        "Import.conversation",
        "Output.post",
        "Output.turn",
        "Share.conversation",
        "Turn.conversation",
    }
)
"""Edges that lead to another stored object, or in a circle."""


def measure_cost(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    variables: Mapping[str, Any],
) -> Cost:
    """Measure an operation of a valid document.

    `variables` are coerced, with their defaults: what is measured is what will run.
    """
    root = schema.get_root_type(operation.operation)
    assert root is not None
    measurement = _Measurement(schema, document, variables=variables)
    size = measurement.measure(operation.selection_set, root)
    return Cost(
        items=size.items,
        depth=size.depth,
        aliases=measurement.aliases,
        root_fields=measurement.root_fields,
        introspections=measurement.introspections,
        introspection_depth=measurement.introspection_depth,
        introspection_values=measurement.introspection_values,
        values=size.values,
        text=size.text,
        directives=measurement.directives,
        alias_length=measurement.alias_length,
    )


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a selection: objects, depth, values in the answer, characters in arguments."""

    items: int
    depth: int
    values: int = 0
    text: int = 0

    def beside(self, other: "_Size") -> "_Size":
        return _Size(
            self.items + other.items,
            max(self.depth, other.depth),
            self.values + other.values,
            self.text + other.text,
        )


_NOTHING: Final = _Size(0, 0)


class _Measurement:
    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        *,
        variables: Mapping[str, Any],
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._fragments = {
            one.name.value: one
            for one in document.definitions
            if isinstance(one, FragmentDefinitionNode)
        }
        self._measured: dict[str, _Size] = {}
        self._texts: dict[str, int] = {}
        self._introspection = IntrospectionCost(schema, self._fragments)
        self._roots = {
            schema.query_type,
            schema.mutation_type,
            schema.subscription_type,
        }
        self.aliases = 0
        self.root_fields = 0
        self.introspections = 0
        self.introspection_depth = 0
        self.introspection_values = 0
        self.directives = 0
        self.alias_length = 0

    def measure(self, selections: SelectionSetNode, parent: GraphQLCompositeType) -> _Size:
        size = _NOTHING
        for selection in selections.selections:
            self.directives += len(selection.directives or ())
            if isinstance(selection, FieldNode):
                size = size.beside(self._measure_field(selection, parent))
            elif isinstance(selection, FragmentSpreadNode):
                size = size.beside(self._measure_fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                assert is_composite_type(inner)
                size = size.beside(self.measure(selection.selection_set, inner))
        return size

    def _measure_fragment(self, name: str) -> _Size:
        if name not in self._measured:
            fragment = self._fragments[name]
            inner = self._schema.get_type(fragment.type_condition.name.value)
            assert is_composite_type(inner)
            self._measured[name] = self.measure(fragment.selection_set, inner)
        return self._measured[name]

    def _measure_field(self, field: FieldNode, parent: GraphQLCompositeType) -> _Size:
        if field.alias is not None:
            self.aliases += 1
            self.alias_length = max(self.alias_length, len(field.alias.value))
        name = field.name.value
        is_root = parent in self._roots
        self.root_fields += is_root
        text = sum(self._measure_text(one.value) for one in field.arguments or ())
        if field.selection_set is None:
            return _Size(0, 1, 1, text)
        if name in INTROSPECTIVE:
            return self._measure_introspection(field)
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)
        declared = parent.fields[name].type
        inner = get_named_type(declared)
        assert is_composite_type(inner)
        within = self.measure(field.selection_set, inner)
        depth = within.depth + 1
        page_size = self._find_page_size(field, inner)
        if page_size is not None:
            return _Size(
                page_size * (1 + within.items),
                depth,
                page_size * (1 + within.values),
                page_size * within.text + text,
            )
        items, values, text_within = within.items, 1 + within.values, within.text
        if is_root or f"{parent.name}.{name}" in LOADED_EDGES:
            items += 1
        if is_list_type(get_nullable_type(declared)) and not parent.name.endswith("Connection"):
            items *= _ASSUMED_LIST_LENGTH
            length = _LONG_LISTS.get(f"{parent.name}.{name}", _ASSUMED_LIST_LENGTH)
            values, text_within = values * length, text_within * length
        return _Size(items, depth, values, text_within + text)

    def _measure_text(self, value: ValueNode) -> int:
        """The characters of all strings in an argument."""
        if isinstance(value, VariableNode):
            name = value.name.value
            if name not in self._texts:
                self._texts[name] = measure_value(self._variables.get(name)).text
            return self._texts[name]
        if isinstance(value, StringValueNode):
            return len(value.value)
        if isinstance(value, ListValueNode):
            return sum(map(self._measure_text, value.values))
        if isinstance(value, ObjectValueNode):
            return sum(self._measure_text(field.value) for field in value.fields)
        return 0

    def _measure_introspection(self, field: FieldNode) -> _Size:
        """Introspection has limits of its own: once in an operation, and deep enough for tools."""
        assert field.selection_set is not None
        self.introspections += 1
        depth = 1 + self._find_depth(field.selection_set, {})
        self.introspection_depth = max(self.introspection_depth, depth)
        self.introspection_values += self._introspection.measure(field)
        return _NOTHING

    def _find_depth(self, selections: SelectionSetNode, known: dict[str, int]) -> int:
        deepest = 0
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in known:
                    known[name] = self._find_depth(self._fragments[name].selection_set, known)
                deepest = max(deepest, known[name])
            elif isinstance(selection, FieldNode | InlineFragmentNode):
                inner = selection.selection_set
                below = self._find_depth(inner, known) if inner else 0
                deepest = max(deepest, below + isinstance(selection, FieldNode))
        return deepest

    def _find_page_size(self, field: FieldNode, inner: GraphQLCompositeType) -> int | None:
        """How many items the page of a connection may have; None for any other field."""
        given = {argument.name.value: argument.value for argument in field.arguments or ()}
        if field.name.value == "nodes" and "ids" in given:
            return self._count_ids(given["ids"])
        if not inner.name.endswith("Connection"):
            return None
        sizes = [self._read_number(given[name]) for name in _PAGE_SIZES if name in given]
        return next((size for size in sizes if size is not None), DEFAULT_PAGE_SIZE)

    def _read_number(self, value: ValueNode) -> int | None:
        found = self._resolve(value)
        if isinstance(found, IntValueNode):
            return abs(int(found.value))
        return abs(found) if isinstance(found, int) else None

    def _count_ids(self, value: ValueNode) -> int:
        found = self._resolve(value)
        if isinstance(found, ListValueNode):
            return len(found.values)
        return len(found) if isinstance(found, list) else 1

    def _resolve(self, value: ValueNode) -> Any:
        """The value of a variable, or a literal as it is."""
        return self._variables.get(value.name.value) if isinstance(value, VariableNode) else value
