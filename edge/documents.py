"""Documents of the schema: each text is parsed and validated once, then remembered."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    Source,
    validate,
)
from graphql.language.parser import Parser, nested_too_deeply_error

from edge.lexer import make_lexer

MAX_TOKENS: Final = 2_000
CACHED_DOCUMENTS: Final = 256


@dataclass(slots=True)
class Document:
    node: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLError, ...]
    """Why it is not valid, if it is not."""
    uses: int = 0
    """How often it has been read."""
    costs: dict[Hashable, Any] = field(default_factory=dict)
    """What `edge.query_cost` has measured of it."""
    compiled: dict[Hashable, Any] = field(default_factory=dict)
    """What `edge.compiled` has made of it."""

    def find_operation(self, name: str | None) -> OperationDefinitionNode | None:
        """The operation of this name, or the first one where no name is given."""
        if name is None:
            return self.operations[0] if self.operations else None
        return next((one for one in self.operations if one.name and one.name.value == name), None)


class Documents:
    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._read = lru_cache(CACHED_DOCUMENTS)(self._parse_and_validate)

    def read(self, text: str) -> Document:
        """Raise GraphQLSyntaxError for a text that is not a document."""
        document = self._read(text)
        document.uses += 1
        return document

    def _parse_and_validate(self, text: str) -> Document:
        node = _parse(text)
        operations = [one for one in node.definitions if isinstance(one, OperationDefinitionNode)]
        errors = validate(self._schema, node)
        for error in errors:
            if error.message.startswith("Cannot query field"):
                error.message = error.message.partition(" Did you mean")[0]
        return Document(node, tuple(operations), tuple(errors))


def _parse(text: str) -> DocumentNode:
    """What graphql-core's `parse` does, with our lexer."""
    source = Source(text)
    parser = Parser(source, max_tokens=MAX_TOKENS, lexer=make_lexer(source))
    try:
        return parser.parse_document()
    except RecursionError:
        pass  # raised here, the error would keep all frames of the recursion
    raise nested_too_deeply_error(parser)
