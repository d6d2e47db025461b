"""Functions of selections: one for each selected object type and class of its values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeAlias

from graphql import (
    FieldNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    OperationDefinitionNode,
)
from graphql.execution.values import VariableValues

from domain.stored import Stored, StoredValues
from edge.compiled.cached_answers import CachedAnswers
from edge.compiled.fields import DEFINITION, FieldArguments, Selected, select
from edge.compiled.leaves import UnexpectedValue, require_list
from edge.compiled.runs import Arguments, Run
from edge.compiled.selections import Selections
from edge.compiled.text import Answer, FunctionText
from schema.companions import without_companion
from schema.context import Request

Function: TypeAlias = Callable[[Any, Run], Any]
_MISSING: Final = object()
MAX_KNOWN_ARGUMENTS: Final = 64
"""How many sets of arguments are cached of one operation."""
MAX_KNOWN_CHARACTERS: Final = 1_000
"""How long the values may be from which cached arguments were made."""


@dataclass
class Functions:
    """Makes the functions of one operation, each at its first use."""

    selections: Selections
    bind: Callable[[FieldArguments, VariableValues | None], dict[str, Any]]
    """Makes the arguments that a resolver is called with."""
    answers: CachedAnswers
    """What is cached of all operations."""
    arguments: list[FieldArguments] = field(default_factory=list)
    memos: Iterator[int] = field(default_factory=count)
    _known_arguments: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    waits: bool = False
    """Whether the answer may have to wait for a read."""

    def make(self, kind: GraphQLOutputType, nodes: Iterable[FieldNode]) -> Function:
        """The function that completes a value of this type: None for a null where it may be."""
        text = FunctionText(self)
        completed = text.complete(kind, "value", list(nodes))
        return text.compile(f"    return {completed}")

    def begin(self, request: Request, variables: VariableValues) -> Run:
        """Begin a run of the operation."""
        return Run(request, self.make_arguments(variables))

    def make_arguments(self, variables: VariableValues) -> Arguments:
        """The arguments of the operation's fields."""
        return Arguments(variables.coerced, lambda number: self._bind(number, variables))

    def _bind(self, number: int, variables: VariableValues) -> dict[str, Any]:
        """Make the arguments. Equal values of the variables give the ones that were made before."""
        arguments = self.arguments[number]
        given = variables.coerced
        values = [repr(given.get(name, _MISSING)) for name in arguments.variable_names]
        key = (number, *values)
        found = self._known_arguments.get(key)
        if found is None:
            found = self.bind(arguments, variables)
            if sum(map(len, values)) <= MAX_KNOWN_CHARACTERS:
                if len(self._known_arguments) >= MAX_KNOWN_ARGUMENTS:
                    self._known_arguments.clear()
                self._known_arguments[key] = found
        return found

    def make_root(self, kind: GraphQLObjectType, operation: OperationDefinitionNode) -> Function:
        """The function that answers a query, whose root has no value."""
        selected = self.selections.fields_of(kind, [operation.selection_set])
        fields = [select(kind, key, nodes) for key, nodes in selected.items()]
        return FunctionText(self).make(fields)

    def make_by_class(
        self, kind: GraphQLObjectType | GraphQLInterfaceType, nodes: list[FieldNode]
    ) -> "ByClass":
        return ByClass(self, kind, nodes)


class ByClass:
    """Answers values of an object type or interface by the function for their class."""

    def __init__(
        self,
        functions: Functions,
        kind: GraphQLObjectType | GraphQLInterfaceType,
        nodes: list[FieldNode],
    ) -> None:
        self._functions = functions
        self._kind = kind
        self._nodes = nodes
        self._known: dict[type, Function] = {}
        self._records: dict[type[Stored], Callable[..., Answer]] = {}
        # For values that are not stored. Made at once, to find what is not covered, and what waits.
        self._plain = {
            concrete.name: FunctionText(functions).make(self._fields(concrete))
            for concrete in self._kinds
        }

    def __call__(self, value: Any, run: Run) -> Any:
        function = self._known.get(value.__class__)
        if function is None:
            function = self._find(value)
        return function(value, run)

    def answer_all(self, values: Any, run: Run) -> list[Any]:
        """The answers of a list's values, none of which may be null."""
        if values.__class__ is StoredValues:
            function = self.make_for_records(values.kind)
            return [function(record, run) for record in values.records]
        known = self._known.get
        return [
            (known(value.__class__) or self._find(value))(value, run)
            for value in require_list(values)
        ]

    def make_for_records(self, stored: type[Stored]) -> Callable[..., Answer]:
        """The function that takes a record and the run."""
        found = self._records.get(stored)
        if found is None:
            fields = self._fields(self._concrete(stored))
            text = FunctionText(self._functions, stored=stored, has_value=False)
            found = self._records[stored] = text.make(fields)
        return found

    def _find(self, value: object) -> Function:
        if value is None:
            raise UnexpectedValue
        actual = without_companion(value).__class__
        if value.__class__ is actual and issubclass(actual, Stored):
            text = FunctionText(self._functions, stored=actual)
            self._known[actual] = text.make(self._fields(self._concrete(actual)))
            return self._known[actual]
        result = self._plain[self._concrete(actual).name]
        if value.__class__ is actual:
            self._known[actual] = result
        return result

    @property
    def _kinds(self) -> Sequence[GraphQLObjectType]:
        if isinstance(self._kind, GraphQLObjectType):
            return [self._kind]
        return self._functions.selections.schema.get_possible_types(self._kind)

    def _concrete(self, actual: type) -> GraphQLObjectType:
        if isinstance(self._kind, GraphQLObjectType):
            return self._kind
        for kind in self._kinds:
            if issubclass(actual, kind.extensions[DEFINITION].origin.source):
                return kind
        raise UnexpectedValue

    def _fields(self, kind: GraphQLObjectType) -> "list[Selected]":
        selected = self._functions.selections.fields_of(
            kind, [node.selection_set for node in self._nodes]
        )
        return [select(kind, key, nodes) for key, nodes in selected.items()]
