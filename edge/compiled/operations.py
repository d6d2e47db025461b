"""Runs operations by compiled functions. What they do not cover returns None, and is counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import strawberry
import structlog
from graphql import (
    FieldNode,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
)
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values
from strawberry.types.arguments import convert_arguments

from edge.compiled.functions import Argued, Function, Functions, _ByClass, _Text
from edge.compiled.leaves import Surprised
from edge.compiled.runs import Arguments, Run
from edge.compiled.selections import Selections, Uncovered, condition_names, fragments_of
from edge.documents import Document
from schema.context import Request

MAX_VARIANTS: Final = 16
"""Of one document, by the values of the variables in its directives."""

_CONDITIONS: Final = "conditions"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Compiled:
    """One operation of a document."""

    functions: Functions
    root: Function
    key: str | None = None
    """Of a subscription: its field."""

    async def query(self, request: Request, variables: VariableValues) -> dict[str, Any]:
        """Raise anything where the answer is not a plain one: then nothing of it is valid."""
        run = self._run(request, variables)
        try:
            answer = self.root(None, run)
            await run.finish()
        finally:
            run.close()
        return cast("dict[str, Any]", answer)

    async def event(
        self, value: object, request: Request, variables: VariableValues
    ) -> dict[str, Any]:
        """The answer to an event of a subscription. Raise as `query` does."""
        run = self._run(request, variables)
        try:
            answer = {self.key: self.root(value, run)}
            await run.finish()
        finally:
            run.close()
        return cast("dict[str, Any]", answer)

    def event_at_once(
        self, value: object, request: Request, variables: VariableValues
    ) -> dict[str, Any]:
        """The same without waiting: raise where the answer has to wait."""
        run = self._run(request, variables)
        try:
            answer = {self.key: self.root(value, run)}
            if run.later:
                raise Surprised
        finally:
            run.close()
        return cast("dict[str, Any]", answer)

    def _run(self, request: Request, variables: VariableValues) -> Run:
        arguments = self.functions.arguments
        bind = self.functions.bind
        return Run(request, Arguments(lambda number: bind(arguments[number], variables)))


class Compiler:
    """Compiles each operation once; the result is kept with its document."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._strawberry = schema
        self._schema: GraphQLSchema = schema._schema
        self.counts: Counter[str] = Counter()
        """How many operations and events were run `compiled`, and how many `plain`."""

    def variables(
        self, operation: OperationDefinitionNode, given: Mapping[str, Any] | None
    ) -> VariableValues | None:
        """None where they are not valid."""
        found = get_variable_values(
            self._schema, operation.variable_definitions or (), dict(given or {})
        )
        return None if isinstance(found, list) else found

    def find(
        self, document: Document, operation: OperationDefinitionNode, variables: VariableValues
    ) -> Compiled | None:
        """None where the operation has something that is not covered."""
        conditions = _conditions(document, variables)
        key = (id(operation), *conditions.items())
        if key not in document.compiled:
            if len(document.compiled) >= MAX_VARIANTS:
                return None
            document.compiled[key] = self._compile(document, operation, conditions)
        return cast("Compiled | None", document.compiled[key])

    def _compile(
        self,
        document: Document,
        operation: OperationDefinitionNode,
        conditions: Mapping[str, bool],
    ) -> Compiled | None:
        selections = Selections(self._schema, fragments_of(document.node), conditions)
        functions = Functions(selections, self._bind)
        try:
            if operation.operation is OperationType.QUERY:
                kind = self._schema.query_type
                assert kind is not None
                root = _ByClass(functions, kind, [cast("FieldNode", operation)])
                return Compiled(functions, _Text(functions).answer(root._fields(kind)))
            if operation.operation is OperationType.SUBSCRIPTION:
                kind = self._schema.subscription_type
                assert kind is not None
                ((key, nodes),) = selections.of(kind, [operation.selection_set]).items()
                definition = kind.fields[nodes[0].name.value]
                return Compiled(functions, functions.of(definition.type, nodes), key)
        except Uncovered as uncovered:
            log.debug("operation is not compiled", field=str(uncovered))
        return None

    def _bind(self, argued: Argued, variables: VariableValues | None) -> dict[str, Any]:
        return convert_arguments(
            get_argument_values(argued.definition, argued.node, variables),
            argued.declared.arguments,
            scalar_registry=self._strawberry.schema_converter.scalar_registry,
            config=self._strawberry.config,
        )


def _conditions(document: Document, variables: VariableValues) -> dict[str, bool]:
    """The variables that the document's directives depend on."""
    names = document.compiled.get(_CONDITIONS)
    if names is None:
        names = document.compiled[_CONDITIONS] = sorted(condition_names(document.node))
    return {name: variables.coerced[name] for name in names if name in variables.coerced}
