"""Decides whether an operation may run: within its client's rates, known, valid, not too complex.

The order of the checks decides which error a client sees. Nothing has been read from the database
yet, except a document that the client names.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from graphql import (
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
)
from graphql.execution.values import VariableValues

from domain.errors import QueryTooComplex, RateLimited
from domain.services.rate_limits import RateLimits
from edge.compiled.operations import Compiler
from edge.documents import Document, Documents
from edge.large_numbers import clamp_variables
from edge.outcomes import Operation, Reason
from edge.parameters import MAX_PARTS
from edge.persisted import DigestWrong, DocumentNotKnown, DocumentNotTrusted, PersistedDocuments
from edge.query_cost import measure_cost
from edge.query_limits import MAX_ITEMS, Cost, check_cost
from edge.rejections import (
    Rejection,
    reject_late,
    reject_persisted,
    reject_rate,
    reject_too_complex,
)
from edge.validation import MAX_COMPARISONS
from edge.variable_sizes import measure_variables
from schema.context import Scope

MAX_COSTS: Final = 64
"""Costs that are remembered of one document."""


@dataclass(frozen=True, slots=True)
class Runnable:
    """An operation that may run."""

    document: Document
    operation: OperationDefinitionNode
    kind: OperationType
    given: Mapping[str, Any]
    """The variables as the client has sent them, with large numbers clamped."""
    variables: VariableValues | None
    """The variables as they run, such as 100 for the 100.0 of an Int. None where they are not
    valid.
    """
    cost: Cost


class OperationChecks:
    """Checks operations, and remembers what it has read and measured of their documents."""

    def __init__(
        self,
        schema: GraphQLSchema,
        *,
        documents: Documents,
        compiler: Compiler,
        persisted: PersistedDocuments,
        rates: RateLimits,
    ) -> None:
        self._schema = schema
        self._documents = documents
        self._compiler = compiler
        self._persisted = persisted
        self._rates = rates

    async def check(
        self, operation: Operation, scope: Scope, *, ends_at: float
    ) -> Runnable | Rejection:
        """Check an operation, and take it from the client's rate limits, even if it is rejected."""
        checked: Runnable | Rejection
        try:
            self._rates.check(scope.client)
            operation = await self._look_up(operation)
            document = self._documents.find(operation.document)
            checked = (
                await self._read_and_check(operation, scope, ends_at)
                if document is None
                else self._check_document(operation, document)
            )
            if operation.persisted is not None and isinstance(checked, Runnable):
                assert operation.document is not None
                await self._persisted.keep(operation.document, operation.persisted)
        except (DocumentNotKnown, DigestWrong, DocumentNotTrusted) as error:
            checked = reject_persisted(error)
        except RateLimited as error:
            return reject_rate(error)
        cost = checked.cost.total if isinstance(checked, Runnable) else 0
        try:
            await self._rates.take(scope.client, is_viewer=scope.viewer is not None, cost=cost)
        except RateLimited as error:
            return reject_rate(error, checked.kind, checked.cost)
        return checked

    async def _look_up(self, operation: Operation) -> Operation:
        """Put the document into an operation that names it."""
        if not self._persisted.needs_looking_up(operation.document, operation.persisted):
            return operation
        found = await self._persisted.find(operation.document, operation.persisted)
        return replace(operation, document=found)

    async def _read_and_check(
        self, operation: Operation, scope: Scope, ends_at: float
    ) -> Runnable | Rejection:
        """Parse and validate, then check."""
        assert operation.document is not None
        try:
            async with asyncio.timeout_at(ends_at):
                document = await self._documents.read(operation.document, reader=scope.key)
        except GraphQLSyntaxError as error:
            return Rejection(reason=Reason.SYNTAX, errors=[error])
        except QueryTooComplex as error:
            return reject_too_complex(error)
        except TimeoutError:
            return reject_late()
        return self._check_document(operation, document)

    def _check_document(self, operation: Operation, document: Document) -> Runnable | Rejection:
        node = document.find_operation(operation.name)
        if node is None:
            message = "The document has no operation of this name."
            return Rejection(reason=Reason.UNKNOWN_OPERATION, errors=[GraphQLError(message)])
        kind = node.operation
        if kind not in operation.kinds:
            message = f"A {kind.value} is not supported here."
            return Rejection(reason=Reason.KIND, errors=[GraphQLError(message)], kind=kind)
        if document.too_complex:
            comparisons = QueryTooComplex(
                "comparisons", maximum=MAX_COMPARISONS, actual=MAX_COMPARISONS + 1
            )
            return reject_too_complex(comparisons, kind)
        if document.errors:
            return Rejection(reason=Reason.INVALID, errors=document.errors, kind=kind)
        if operation.name is None and len(document.operations) > 1:
            message = "The document has several operations: set `operationName`."
            return Rejection(reason=Reason.NAME_MISSING, errors=[GraphQLError(message)], kind=kind)
        if operation.excessive_parts:
            parts = QueryTooComplex("items", maximum=MAX_PARTS, actual=operation.excessive_parts)
            return reject_too_complex(parts, kind)
        return self._check_cost(document, node, operation.variables or {})

    def _check_cost(
        self, document: Document, node: OperationDefinitionNode, given: Mapping[str, Any]
    ) -> Runnable | Rejection:
        """Read the variables, and measure what is asked for with them."""
        kind = node.operation
        longest = 0
        if any(isinstance(value, list | dict) for value in given.values()):
            sizes = measure_variables(node, given)
            longest = max((size.list_length for _, size in sizes), default=0)
        if longest > MAX_ITEMS:
            # Coercing it would take long, and would end in a refusal.
            lists = QueryTooComplex("items", maximum=MAX_ITEMS, actual=longest)
            return reject_too_complex(lists, kind)
        variables = self._compiler.coerce_variables(document, node, given)
        if variables is None:
            given = clamp_variables(self._schema, node, given)
            variables = self._compiler.coerce_variables(document, node, given)
        cost = self._measure(document, node, variables.coerced if variables else {})
        try:
            check_cost(cost, kind)
        except QueryTooComplex as error:
            return reject_too_complex(error, kind, cost)
        return Runnable(document, node, kind, given, variables, cost)

    def _measure(
        self, document: Document, node: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> Cost:
        key = (id(node), measure_variables(node, variables))
        cost = document.costs.get(key)
        if cost is None:
            cost = measure_cost(self._schema, document.node, node, variables=variables)
            if len(document.costs) < MAX_COSTS:
                document.costs[key] = cost
        return cast("Cost", cost)
