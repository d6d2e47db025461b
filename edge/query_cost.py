"""What a document asks for, known before anything is read: objects in all, depth, names.

Page sizes multiply down the tree, so that a small document cannot ask for millions of objects.
What stands inside one stored document, such as a turn's outputs, comes with it and counts
nothing; an edge that has to be looked up counts one, times the lists it stands in. Each fragment
is measured once, however often it is spread.
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
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from domain.errors import QueryTooComplex
from domain.pages import DEFAULT_PAGE_SIZE

MAX_ITEMS: Final = 1_000
MAX_DEPTH: Final = 12
MAX_INTROSPECTION_DEPTH: Final = 16
MAX_ALIASES: Final = 30
MAX_ROOT_FIELDS: Final = 20
MAX_MUTATIONS: Final = 5
_PAGE_SIZES: Final = ("first", "last")
_USUAL_LIST: Final = 3
"""How many an embedded list is taken to have, where each of its items leads to a look-up."""
_LOOKED_UP: Final = frozenset(
    {
        "Conversation.latestTurn",
        "Image.madeFrom",
        "Image.output",
        "Image.turn",
        "ImageModel.editModel",
        "ImageModel.replacement",
        "Output.turn",
        "Turn.conversation",
    }
)
"""Edges that go on to another stored object, or round in a circle."""


@dataclass(frozen=True, slots=True)
class Cost:
    items: int
    depth: int

    def beside(self, other: "Cost") -> "Cost":
        return Cost(self.items + other.items, max(self.depth, other.depth))


_NOTHING: Final = Cost(0, 0)


def check_cost(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
) -> None:
    """Raise QueryTooComplex where a valid document asks for too much."""
    root = schema.get_root_type(operation.operation)
    assert root is not None
    defaults = {
        definition.variable.name.value: definition.default_value
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    measuring = _Measuring(schema, document, variables, defaults)
    cost = measuring.of(operation.selection_set, root)
    mutating = operation.operation is OperationType.MUTATION
    for limit, maximum, actual in (
        ("introspections", 1, measuring.introspections),
        ("introspectionDepth", MAX_INTROSPECTION_DEPTH, measuring.introspection_depth),
        ("depth", MAX_DEPTH, cost.depth),
        ("aliases", MAX_ALIASES, measuring.aliases),
        ("rootFields", MAX_MUTATIONS if mutating else MAX_ROOT_FIELDS, measuring.root_fields),
        ("items", MAX_ITEMS, cost.items),
    ):
        if actual > maximum:
            raise QueryTooComplex(limit, maximum=maximum, actual=actual)


class _Measuring:
    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        variables: Mapping[str, Any],
        defaults: Mapping[str, ValueNode],
    ) -> None:
        self._schema = schema
        self._variables = variables
        self._defaults = defaults
        self._fragments = {
            one.name.value: one
            for one in document.definitions
            if isinstance(one, FragmentDefinitionNode)
        }
        self._measured: dict[str, Cost] = {}
        self._roots = {
            schema.query_type,
            schema.mutation_type,
            schema.subscription_type,
        }
        self.aliases = 0
        self.root_fields = 0
        self.introspections = 0
        self.introspection_depth = 0

    def of(self, selections: SelectionSetNode, parent: GraphQLCompositeType) -> Cost:
        cost = _NOTHING
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                cost = cost.beside(self._of_field(selection, parent))
            elif isinstance(selection, FragmentSpreadNode):
                cost = cost.beside(self._of_fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                assert is_composite_type(inner)
                cost = cost.beside(self.of(selection.selection_set, inner))
        return cost

    def _of_fragment(self, name: str) -> Cost:
        if name not in self._measured:
            fragment = self._fragments[name]
            inner = self._schema.get_type(fragment.type_condition.name.value)
            assert is_composite_type(inner)
            self._measured[name] = self.of(fragment.selection_set, inner)
        return self._measured[name]

    def _of_field(self, field: FieldNode, parent: GraphQLCompositeType) -> Cost:
        self.aliases += field.alias is not None
        name = field.name.value
        is_root = parent in self._roots
        self.root_fields += is_root
        if field.selection_set is None:
            return Cost(0, 1)
        if name in ("__schema", "__type"):
            return self._of_introspection(field)
        assert isinstance(parent, GraphQLObjectType | GraphQLInterfaceType)
        declared = parent.fields[name].type
        inner = get_named_type(declared)
        assert is_composite_type(inner)
        within = self.of(field.selection_set, inner)
        depth = within.depth + 1
        size = self._size_of(field, inner)
        if size is not None:
            return Cost(size * (1 + within.items), depth)
        items = within.items
        if is_root or f"{parent.name}.{name}" in _LOOKED_UP:
            items += 1
        if is_list_type(get_nullable_type(declared)) and not parent.name.endswith("Connection"):
            items *= _USUAL_LIST
        return Cost(items, depth)

    def _of_introspection(self, field: FieldNode) -> Cost:
        """Bounded by itself: once, and deep enough for tools."""
        assert field.selection_set is not None
        self.introspections += 1
        depth = 1 + self._plain_depth(field.selection_set, {})
        self.introspection_depth = max(self.introspection_depth, depth)
        return _NOTHING

    def _plain_depth(self, selections: SelectionSetNode, known: dict[str, int]) -> int:
        deepest = 0
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in known:
                    known[name] = self._plain_depth(self._fragments[name].selection_set, known)
                deepest = max(deepest, known[name])
            elif isinstance(selection, FieldNode | InlineFragmentNode):
                inner = selection.selection_set
                below = self._plain_depth(inner, known) if inner else 0
                deepest = max(deepest, below + isinstance(selection, FieldNode))
        return deepest

    def _size_of(self, field: FieldNode, inner: GraphQLCompositeType) -> int | None:
        """How many items a page may have; None for what is no page."""
        given = {argument.name.value: argument.value for argument in field.arguments or ()}
        if field.name.value == "nodes" and "ids" in given:
            return self._length_of(given["ids"])
        if not inner.name.endswith("Connection"):
            return None
        sizes = [self._number(given[name]) for name in _PAGE_SIZES if name in given]
        return next((size for size in sizes if size is not None), DEFAULT_PAGE_SIZE)

    def _number(self, value: ValueNode) -> int | None:
        found = self._value(value)
        if isinstance(found, IntValueNode):
            return abs(int(found.value))
        return abs(found) if isinstance(found, int) else None

    def _length_of(self, value: ValueNode) -> int:
        found = self._value(value)
        if isinstance(found, ListValueNode):
            return len(found.values)
        return len(found) if isinstance(found, list) else 1

    def _value(self, value: ValueNode) -> Any:
        """A literal as it stands; a variable's value, or its default."""
        if not isinstance(value, VariableNode):
            return value
        name = value.name.value
        return self._variables[name] if name in self._variables else self._defaults.get(name)
