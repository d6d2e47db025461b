"""Documents: parsed once, and refused where it is not clear which of their operations is meant."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, parse
from strawberry.extensions import SchemaExtension

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
        if not context.pre_execution_errors and context._provided_operation_name is None:
            document = context.graphql_document
            assert document is not None
            if _operation_count(document) > 1:
                context.pre_execution_errors = [
                    GraphQLError(
                        "Name the operation: the document has several.",
                        extensions={"code": "OPERATION_RESOLUTION_FAILED"},
                    )
                ]
        yield


@lru_cache(CACHED_DOCUMENTS)
def _parsed(query: str) -> DocumentNode:
    return parse(query, max_tokens=MAX_TOKENS)


def _operation_count(document: DocumentNode) -> int:
    return sum(isinstance(one, OperationDefinitionNode) for one in document.definitions)
