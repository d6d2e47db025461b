"""Documents: parsed once; refused where they ask for too much, or it is not clear for what."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    get_operation_ast,
    parse,
)
from strawberry.extensions import SchemaExtension

from domain.errors import QueryTooComplex
from edge.query_cost import check_cost

MAX_TOKENS: Final = 2_000
CACHED_DOCUMENTS: Final = 256


class Documents(SchemaExtension):
    """Belongs behind `ValidationCache`, whose verdict it adds to."""

    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options["max_tokens"] = MAX_TOKENS
        yield

    def on_parse(self) -> Iterator[None]:
        with suppress(GraphQLError):  # it is parsed again after this, where errors are expected
            self.execution_context.graphql_document = _parsed(self.execution_context.query or "")
        yield

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        if not context.pre_execution_errors:
            error = self._refusal()
            # An empty list says that validation is done; None would have it done again.
            context.pre_execution_errors = [error] if error else []
        yield

    def _refusal(self) -> GraphQLError | None:
        """What is wrong with a document that is valid by itself."""
        context = self.execution_context
        document = context.graphql_document
        assert document is not None
        operations = _operations(document)
        name = context._provided_operation_name
        if name is None and len(operations) > 1:
            return GraphQLError(
                "The document has several operations: set `operationName`.",
                extensions={"code": "OPERATION_RESOLUTION_FAILED"},
            )
        operation = get_operation_ast(document, name)
        assert operation is not None
        try:
            check_cost(context.schema._schema, document, operation, context.variables or {})
        except QueryTooComplex as error:
            return GraphQLError(str(error), extensions=error.extensions)
        return None


@lru_cache(CACHED_DOCUMENTS)
def _parsed(query: str) -> DocumentNode:
    return parse(query, max_tokens=MAX_TOKENS)


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
