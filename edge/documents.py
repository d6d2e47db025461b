"""Documents of the schema: each text is parsed and validated once, then remembered.

What must stay true: no document holds up the event loop, whatever it looks like; those of one
client hold up another client's only for as long as one takes; and what is remembered is bounded.
"""

import re
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    Source,
    SourceLocation,
    parse,
    validate,
)
from graphql.validation.rules import overlapping_fields_can_be_merged

from edge.side_thread import SideThread

MAX_TOKENS: Final = 2_000
MAX_ERRORS: Final = 20
"""Of one document, after which it is not looked at further."""
MAX_COMPARISONS: Final = 20_000
"""Of fields that must not conflict, which are compared with one another. With graphql-core's own
limit a document of 7 KB takes more than a second.
"""
AT_ONCE_CHARACTERS: Final = 500
"""Up to this length a document is read within the event loop, in about 10 ms at most."""
LOCATED_CHARACTERS: Final = 16 * 1024
"""Up to this length errors have locations: to find two of them, graphql-core reads every line."""
REMEMBERED_DOCUMENTS: Final = 256
REMEMBERED_BYTES: Final = 32 * 1024 * 1024
"""About what remembered documents may take, compiled functions included."""
_TOKEN_BYTES: Final = 1_000
_TOKEN: Final = re.compile(r"\w+|[^\s\w]")

overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = MAX_COMPARISONS


@dataclass(slots=True)
class Document:
    node: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLError, ...]
    """Why it is not valid, if it is not."""
    byte_size: int = 0
    """About what it takes, with what is made of it."""
    is_long: bool = False
    """Whether it is better not to work on it within the event loop."""
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


class _Text(Source):
    """Finds a location without looking at every line before it in Python."""

    def get_location(self, position: int) -> SourceLocation:
        text = self.body
        line_breaks = text.count("\n", 0, position) + text.count("\r", 0, position)
        line_breaks -= text.count("\r\n", 0, position)
        last_break = max(text.rfind("\n", 0, position), text.rfind("\r", 0, position))
        return SourceLocation(line_breaks + 1, position - last_break)


class Documents:
    """Reads documents, and remembers those that were used last."""

    def __init__(self, schema: GraphQLSchema, thread: SideThread) -> None:
        self._schema = schema
        self._thread = thread
        self._remembered: OrderedDict[str, Document] = OrderedDict()
        self._byte_size = 0

    def find(self, text: str) -> Document | None:
        """The document, if it is remembered."""
        document = self._remembered.get(text)
        if document is not None:
            document.uses += 1
            self._remembered.move_to_end(text)
        return document

    async def read(self, text: str, *, reader: Hashable) -> Document:
        """Parse and validate a text for a reader, whose long documents take turns.

        Raise GraphQLSyntaxError for a text that is not a document.
        """
        if len(text) <= AT_ONCE_CHARACTERS:
            return self._remember(text, read_document(self._schema, text))
        read = await self._thread.call(reader, partial(self._find_or_read, text))
        return self.find(text) or self._remember(text, read)

    def _find_or_read(self, text: str) -> Document:
        """Called in the thread: meanwhile another reader may have had it read."""
        return self._remembered.get(text) or read_document(self._schema, text)

    def _remember(self, text: str, document: Document) -> Document:
        document.uses += 1
        self._remembered[text] = document
        self._byte_size += document.byte_size
        while len(self._remembered) > REMEMBERED_DOCUMENTS or self._byte_size > REMEMBERED_BYTES:
            _, forgotten = self._remembered.popitem(last=False)
            self._byte_size -= forgotten.byte_size
        return document


def read_document(schema: GraphQLSchema, text: str) -> Document:
    """Parse and validate. Raise GraphQLSyntaxError for a text that is not a document."""
    node = parse(_Text(text), max_tokens=MAX_TOKENS, no_location=len(text) > LOCATED_CHARACTERS)
    operations = [one for one in node.definitions if isinstance(one, OperationDefinitionNode)]
    errors = validate(schema, node, max_errors=MAX_ERRORS, hide_suggestions=True)
    tokens = min(sum(1 for _ in _TOKEN.finditer(text)), MAX_TOKENS)
    byte_size = 4 * len(text) + _TOKEN_BYTES * tokens
    is_long = len(text) > AT_ONCE_CHARACTERS
    return Document(node, tuple(operations), tuple(errors), byte_size, is_long)
