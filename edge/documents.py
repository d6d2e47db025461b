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
    ValidationContext,
    specified_rules,
    validate,
)
from graphql.language.parser import Parser, nested_too_deeply_error
from graphql.validation import OverlappingFieldsCanBeMergedRule
from graphql.validation.validate import ValidationAbortedError

from edge.lexer import make_lexer

MAX_TOKENS: Final = 2_000
CACHED_DOCUMENTS: Final = 256
MAX_COMPARISONS: Final = 10_000
"""Of fields that have one name in the answer: whether they can be merged. Documents of apps need
none, some thousand where many fragments select the same fields. It keeps validation below 50 ms.
"""
MAX_ERRORS: Final = 5
"""Of one document. Each may quote a value of any length, which has to be written out for it."""


@dataclass(slots=True)
class Document:
    node: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLError, ...]
    """Why it is not valid, if it is not."""
    too_complex: bool = False
    """Whether it has not been validated to the end, because that would take too long."""
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
        # Suggestions take long, and tell strangers of the schema.
        errors = validate(self._schema, node, _RULES, max_errors=MAX_ERRORS, hide_suggestions=True)
        # Where more is wrong, what is invalid is the better answer.
        too_complex = len(errors) == 1 and isinstance(errors[0], ValidationAbortedError)
        return Document(node, tuple(operations), tuple(errors), too_complex)


class _OverlappingFieldsRule(OverlappingFieldsCanBeMergedRule):
    """With less patience than graphql-core's, which takes seconds for a small document."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MAX_COMPARISONS


_RULES: Final = tuple(
    _OverlappingFieldsRule if rule is OverlappingFieldsCanBeMergedRule else rule
    for rule in specified_rules
)


def _parse(text: str) -> DocumentNode:
    """What graphql-core's `parse` does, with our lexer."""
    source = Source(text)
    parser = Parser(source, max_tokens=MAX_TOKENS, lexer=make_lexer(source))
    try:
        return parser.parse_document()
    except RecursionError:
        pass  # raised here, the error would keep all frames of the recursion
    raise nested_too_deeply_error(parser)
