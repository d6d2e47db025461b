"""What a document asks for, known before anything is read: list items in all, and depth.

Page sizes multiply down the tree, so that a small document cannot ask for millions of objects.
Lists that stand inside one stored document, such as a turn's outputs, come with it and count
nothing. Each fragment is measured once, however often it is spread.
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
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    is_composite_type,
)

from domain.errors import QueryTooComplex
from domain.pages import DEFAULT_PAGE_SIZE

MAX_ITEMS: Final = 1_000
MAX_DEPTH: Final = 12
MAX_INTROSPECTION_DEPTH: Final = 16
_PAGE_SIZES: Final = ("first", "last")


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
    introspecting = any(
        isinstance(one, FieldNode) and one.name.value.startswith("__")
        for one in operation.selection_set.selections
    )
    cost = measuring.of(operation.selection_set, root)
    deepest = MAX_INTROSPECTION_DEPTH if introspecting else MAX_DEPTH
    if cost.depth > deepest:
        raise QueryTooComplex("depth", maximum=deepest, actual=cost.depth)
    if cost.items > MAX_ITEMS:
        raise QueryTooComplex("items", maximum=MAX_ITEMS, actual=cost.items)


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
        if field.selection_set is None:
            return Cost(0, 1)
        inner = self._type_of(field, parent)
        within = self.of(field.selection_set, inner) if inner is not None else _NOTHING
        size = self._size_of(field, inner)
        return Cost(size * (1 + within.items) if size else within.items, within.depth + 1)

    def _type_of(
        self, field: FieldNode, parent: GraphQLCompositeType
    ) -> GraphQLCompositeType | None:
        name = field.name.value
        if name == "__schema":
            inner = self._schema.get_type("__Schema")
        elif name == "__type":
            inner = self._schema.get_type("__Type")
        elif isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            inner = get_named_type(parent.fields[name].type)
        else:
            return None
        return inner if is_composite_type(inner) else None

    def _size_of(self, field: FieldNode, inner: GraphQLCompositeType | None) -> int:
        """How many items a page may have; 0 for what is no page."""
        given = {argument.name.value: argument.value for argument in field.arguments or ()}
        if field.name.value == "nodes" and "ids" in given:
            return self._length_of(given["ids"])
        if inner is None or not inner.name.endswith("Connection"):
            return 0
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
