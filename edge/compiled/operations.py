"""Operations that are answered by compiled functions."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import strawberry
import structlog
from graphql import GraphQLSchema, OperationDefinitionNode, OperationType
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values
from strawberry.types.arguments import convert_arguments

from domain.ports.changes import Receiver
from edge.compiled.cached_answers import CachedAnswers
from edge.compiled.fields import DEFINITION, FieldArguments, read_arguments
from edge.compiled.functions import Function, Functions
from edge.compiled.runs import Arguments, Run
from edge.compiled.selections import (
    NotCompilable,
    Selections,
    condition_names,
    fragments_of,
    variables_below,
)
from edge.compiled.variables import PlainVariables
from edge.documents import Document
from schema.context import CompiledInfo, Request
from schema.hints import Hints, hints_of

MAX_VARIANTS: Final = 16
"""How many compiled forms one document may have: one for each set of values that the variables in
its directives take.
"""

_CONDITIONS: Final = "conditions"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledQuery:
    functions: Functions
    root: Function

    async def answer(self, request: Request, variables: VariableValues) -> dict[str, Any]:
        """Answer the query. Any exception means that graphql-core has to answer instead."""
        run = self.functions.begin(request, variables)
        try:
            answer = self.root(None, run)
            await run.finish()
        finally:
            run.close()
        return cast("dict[str, Any]", answer)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledSubscription:
    functions: Functions
    source: FieldArguments
    """The subscription's field."""
    key: str
    """The field's name in the answer."""
    root: Function
    variable_names: tuple[str, ...]
    """The variables that answers depend on: not those of the field itself."""

    @property
    def delivers(self) -> bool:
        """Whether events can be delivered, and answered without waiting."""
        return self._hints.delivers is not None and not self.functions.waits

    @property
    def _hints(self) -> Hints:
        return hints_of(self.source.declared)

    def open_events(
        self, request: Request, variables: VariableValues
    ) -> AsyncGenerator[object, None]:
        """The stream of the field's resolver."""
        resolver = self.source.declared.base_resolver
        assert resolver is not None
        arguments = self.functions.bind(self.source, variables)
        stream = cast("Callable[..., AsyncGenerator[object, None]]", resolver.wrapped_func)
        return stream(None, info=CompiledInfo(request), **arguments)

    def deliver(
        self, request: Request, variables: VariableValues, *, to: Receiver[object]
    ) -> Awaitable[None]:
        deliver = self._hints.delivers
        assert deliver is not None
        arguments = self.functions.bind(self.source, variables)
        return deliver(CompiledInfo(request), **arguments, to=to)

    async def answer(
        self, event: object, request: Request, variables: VariableValues
    ) -> dict[str, Any]:
        """Answer an event. Any exception means that graphql-core has to answer instead."""
        run = self.functions.begin(request, variables)
        try:
            answer = {self.key: self.root(event, run)}
            await run.finish()
        finally:
            run.close()
        return answer

    def answer_at_once(
        self, event: object, request: Request, arguments: Arguments
    ) -> dict[str, Any]:
        """As `answer`, for a subscription that delivers. All events of a request have the same
        arguments.
        """
        return {self.key: self.root(event, Run(request, arguments))}

    def group_key(self, request: Request, variables: VariableValues) -> Hashable:
        """Subscribers of one group get the same answer to the same event."""
        given = variables.coerced
        # One that is left out is not null: its argument may have a default.
        values = tuple((name, repr(given[name])) for name in self.variable_names if name in given)
        viewer = None if self._hints.for_all else request.scope.key
        return (self, viewer, values)


class Compiler:
    """Compiles each operation once; the result is kept with its document."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._strawberry = schema
        self._schema: GraphQLSchema = schema._schema
        self._answers = CachedAnswers()

    def coerce_variables(
        self, document: Document, operation: OperationDefinitionNode, given: Mapping[str, Any]
    ) -> VariableValues | None:
        """Coerce the variables. None where they are not valid."""
        plain = document.variables.get(id(operation))
        if plain is None:
            plain = document.variables[id(operation)] = PlainVariables(self._schema, operation)
        coerced = plain.coerce(given)
        if coerced is not None:
            return coerced
        found = get_variable_values(
            self._schema,
            operation.variable_definitions or (),
            dict(given),
            max_errors=1,
            hide_suggestions=True,
        )
        return None if isinstance(found, list) else found

    def compile_query(
        self, document: Document, operation: OperationDefinitionNode, variables: VariableValues
    ) -> CompiledQuery | None:
        """Compile a query. None where it has something that is not compiled."""
        found = self._find(document, operation, variables)
        return found if isinstance(found, CompiledQuery) else None

    def compile_subscription(
        self, document: Document, operation: OperationDefinitionNode, variables: VariableValues
    ) -> CompiledSubscription | None:
        """Compile a subscription. None where it has something that is not compiled."""
        found = self._find(document, operation, variables)
        return found if isinstance(found, CompiledSubscription) else None

    def has_compiled(
        self, document: Document, operation: OperationDefinitionNode, variables: VariableValues
    ) -> bool:
        """Whether the operation has been compiled before, for equal variables of its directives."""
        return _key(document, operation, variables) in document.compiled

    def _find(
        self, document: Document, operation: OperationDefinitionNode, variables: VariableValues
    ) -> CompiledQuery | CompiledSubscription | None:
        key = _key(document, operation, variables)
        if key not in document.compiled:
            if len(document.compiled) >= MAX_VARIANTS:
                return None
            try:
                conditions = _conditions(document, variables)
                document.compiled[key] = self._compile(document, operation, conditions)
            except NotCompilable as reason:
                log.debug("operation is not compiled", field=str(reason))
                document.compiled[key] = None
        return cast("CompiledQuery | CompiledSubscription | None", document.compiled[key])

    def _compile(
        self,
        document: Document,
        operation: OperationDefinitionNode,
        conditions: Mapping[str, bool],
    ) -> CompiledQuery | CompiledSubscription:
        selections = Selections(self._schema, fragments_of(document.node), conditions)
        functions = Functions(selections, self._bind, self._answers)
        kind = self._schema.get_root_type(operation.operation)
        assert kind is not None
        if operation.operation is OperationType.QUERY:
            return CompiledQuery(functions, functions.make_root(kind, operation))
        ((key, nodes),) = selections.fields_of(kind, [operation.selection_set]).items()
        definition = kind.fields[nodes[0].name.value]
        declared = definition.extensions[DEFINITION]
        source = read_arguments(nodes[0], definition, declared)
        return CompiledSubscription(
            functions,
            source,
            key,
            functions.make(definition.type, nodes),
            variables_below(document.node, nodes),
        )

    def _bind(self, arguments: FieldArguments, variables: VariableValues | None) -> dict[str, Any]:
        if variables is not None and arguments.plain is not None:
            given = variables.coerced
            found = {name: given[one] for name, one in arguments.plain.items() if one in given}
            if None not in found.values():
                return found
        return convert_arguments(
            get_argument_values(arguments.definition, arguments.node, variables),
            arguments.declared.arguments,
            scalar_registry=self._strawberry.schema_converter.scalar_registry,
            config=self._strawberry.config,
        )


def _key(
    document: Document, operation: OperationDefinitionNode, variables: VariableValues
) -> Hashable:
    return (id(operation), *_conditions(document, variables).items())


def _conditions(document: Document, variables: VariableValues) -> dict[str, bool]:
    """The variables that the document's directives depend on."""
    names = document.compiled.get(_CONDITIONS)
    if names is None:
        names = document.compiled[_CONDITIONS] = sorted(condition_names(document.node))
    return {name: variables.coerced[name] for name in names if name in variables.coerced}
