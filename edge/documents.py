"""Parses and validates documents: each text once, after which the result is remembered.

What must stay true: no document holds up the event loop, whatever it looks like; a client's long
documents delay another client's by the time of one of them at most; and the memory of remembered
documents is bounded.
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
    GraphQLSyntaxError,
    OperationDefinitionNode,
    Source,
    SourceLocation,
    Token,
)
from graphql.language.parser import Parser, nested_too_deeply_error
from graphql.validation.validate import ValidationAbortedError

from domain.errors import QueryTooComplex
from edge.lexer import make_lexer
from edge.side_thread import SideThread
from edge.validation import find_errors

MAX_TOKENS: Final = 2_000
AT_ONCE_CHARACTERS: Final = 500
"""Up to this length a document is read within the event loop, in about 10 ms at most."""
LOCATED_CHARACTERS: Final = 16 * 1024
"""Up to this length errors have locations: graphql-core reads every line to find one."""
REMEMBERED_DOCUMENTS: Final = 256
REMEMBERED_BYTES: Final = 32 * 1024 * 1024
"""The memory that remembered documents may take, compiled functions included; estimated."""
_TOKEN_BYTES: Final = 1_000
_TOKEN: Final = re.compile(r"\w+|[^\s\w]")


@dataclass(slots=True)
class Document:
    node: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLError, ...]
    """Why the document is not valid; empty where it is."""
    too_complex: bool = False
    """Whether validation was stopped, because it would take too long."""
    byte_size: int = 0
    """The estimated memory of the document and of what is made of it."""
    is_long: bool = False
    """Whether work on the document belongs in a thread instead of the event loop."""
    uses: int = 0
    """How often it has been read."""
    costs: dict[Hashable, Any] = field(default_factory=dict)
    """What `edge.query_cost` has measured of it."""
    compiled: dict[Hashable, Any] = field(default_factory=dict)
    """What `edge.compiled` has made of it."""
    variables: dict[int, Any] = field(default_factory=dict)
    """How `edge.compiled` reads the variables of each operation."""

    def find_operation(self, name: str | None) -> OperationDefinitionNode | None:
        """The operation of this name, or the first one where no name is given."""
        if name is None:
            return self.operations[0] if self.operations else None
        return next((one for one in self.operations if one.name and one.name.value == name), None)


class _Text(Source):
    """A source that finds a location without reading every line before it in Python."""

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

    def find(self, text: str | None) -> Document | None:
        """The document of this text, if it is remembered."""
        if text is None or text not in self._remembered:
            return None
        self._remembered.move_to_end(text)
        document = self._remembered[text]
        document.uses += 1
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
        """Find a document, or read it. Called in the thread: another reader may have had it read in
        the meantime.
        """
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
    node = _parse(text)
    operations = [one for one in node.definitions if isinstance(one, OperationDefinitionNode)]
    errors = find_errors(schema, node)
    # A document that is invalid for other reasons is reported as such, not as too complex.
    too_complex = len(errors) == 1 and isinstance(errors[0], ValidationAbortedError)
    tokens = min(sum(1 for _ in _TOKEN.finditer(text)), MAX_TOKENS)
    byte_size = 4 * len(text) + _TOKEN_BYTES * tokens
    is_long = len(text) > AT_ONCE_CHARACTERS
    return Document(node, tuple(operations), tuple(errors), too_complex, byte_size, is_long)


def _parse(text: str) -> DocumentNode:
    """Parse as graphql-core's `parse` does, with Darkroom's lexer."""
    source = _Text(text)
    parser = Parser(
        source,
        max_tokens=MAX_TOKENS,
        no_location=len(text) > LOCATED_CHARACTERS,
        lexer=make_lexer(source),
    )
    try:
        document = parser.parse_document()
    except GraphQLSyntaxError as error:
        if parser._token_counter <= MAX_TOKENS:
            raise
        # Its length is the only thing that is wrong.
        raise QueryTooComplex("tokens", maximum=MAX_TOKENS, actual=MAX_TOKENS + 1) from error
    except RecursionError:
        pass  # Raised inside this block, the error would keep all frames of the recursion alive.
    else:
        return document
    finally:
        _unlink(parser._lexer.token)
    raise nested_too_deeply_error(parser)


def _unlink(one: Token) -> None:
    """Remove the links between the tokens of a text, so that none outlives the document: what
    refers to itself stays until a full garbage collection, for minutes.
    """
    while one.next is not None:
        one = one.next
    token: Token | None = one
    while token is not None:
        token.next, token.prev, token = None, None, token.prev
