"""What an operation selects of an object type, with fragments, aliases and directives resolved."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    Node,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    Visitor,
    visit,
)

_CONDITIONS: Final = {"include": True, "skip": False}


class NotCompilable(Exception):
    """The operation has something that is not compiled. The text says what."""


@dataclass(frozen=True, slots=True)
class Selections:
    """The selections of one document, with the values that the variables of its directives have."""

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    conditions: Mapping[str, bool]

    def fields_of(
        self, kind: GraphQLObjectType, sets: Iterable[SelectionSetNode | None]
    ) -> dict[str, list[FieldNode]]:
        """The selected fields by response key, in the order of the answer."""
        found: dict[str, list[FieldNode]] = {}
        visited: set[str] = set()
        for selection_set in sets:
            for field in self._fields(kind, selection_set, visited):
                key = field.alias.value if field.alias else field.name.value
                found.setdefault(key, []).append(field)
        return found

    def _fields(
        self, kind: GraphQLObjectType, selected: SelectionSetNode | None, visited: set[str]
    ) -> Iterator[FieldNode]:
        for node in selected.selections if selected else ():
            if not self._is_included(node):
                continue
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                if condition is None or self._applies(condition.name.value, kind):
                    yield from self._fields(kind, node.selection_set, visited)
            elif isinstance(node, FragmentSpreadNode):
                name = node.name.value
                fragment = self.fragments[name]
                if name not in visited:
                    visited.add(name)
                    if self._applies(fragment.type_condition.name.value, kind):
                        yield from self._fields(kind, fragment.selection_set, visited)

    def _applies(self, condition: str, kind: GraphQLObjectType) -> bool:
        if condition == kind.name:
            return True
        wanted = self.schema.type_map[condition]
        return isinstance(wanted, GraphQLInterfaceType) and wanted in kind.interfaces

    def _is_included(self, node: SelectionNode) -> bool:
        return all(
            self._condition(directive) is _CONDITIONS[directive.name.value]
            for directive in node.directives or ()
        )

    def _condition(self, directive: DirectiveNode) -> bool:
        if directive.name.value not in _CONDITIONS:
            raise NotCompilable(f"@{directive.name.value}")
        assert directive.arguments
        value = directive.arguments[0].value
        if isinstance(value, BooleanValueNode):
            return value.value
        assert isinstance(value, VariableNode)
        return self.conditions[value.name.value]


def condition_names(document: DocumentNode) -> frozenset[str]:
    """The variables that the document's directives depend on."""
    names: set[str] = set()

    class Directives(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    names.add(argument.value.name.value)

    visit(document, Directives())
    return frozenset(names)


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }


def variables_of(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The names of the variables in these nodes."""
    names: set[str] = set()

    class Variables(Visitor):
        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            names.add(node.name.value)

    for node in nodes:
        visit(node, Variables())
    return tuple(sorted(names))


def variables_below(document: DocumentNode, nodes: Iterable[FieldNode]) -> tuple[str, ...]:
    """The variables in the selections of these fields, and in fragments."""
    selected = [node.selection_set for node in nodes if node.selection_set]
    return variables_of([*selected, *fragments_of(document).values()])
