"""Reads `query`, `variables` and the other parameters of an operation, for every transport."""

from collections.abc import Mapping
from typing import Any, Final

from graphql import OperationType

from edge.outcomes import ALL_KINDS, Operation

MAX_ID_LENGTH: Final = 200
"""The length of a document's id."""


class InvalidParameters(Exception):
    """What the client has sent are not the parameters of an operation."""


def read_parameters(
    found: Mapping[str, Any], kinds: frozenset[OperationType] = ALL_KINDS
) -> Operation:
    """Read the parameters. Raise InvalidParameters.

    An empty name counts as none, since some clients send it so. With `documentId` or
    `extensions.persistedQuery`, which name a document, `query` may be missing.
    """
    document, name = found.get("query"), found.get("operationName")
    variables, extensions = found.get("variables"), found.get("extensions")
    if not isinstance(variables, dict | None):
        raise InvalidParameters("`variables` must be an object.")
    if not isinstance(extensions, dict | None):
        raise InvalidParameters("`extensions` must be an object.")
    if not isinstance(name, str | None):
        raise InvalidParameters("`operationName` must be a string.")
    persisted = _find_persisted(found.get("documentId"), extensions or {})
    if not document and persisted is not None:
        document = None
    elif not isinstance(document, str):
        raise InvalidParameters("`query` must be a GraphQL document.")
    return Operation(
        document=document,
        variables=variables,
        name=name or None,
        kinds=kinds,
        persisted=persisted,
        wants_cost=(extensions or {}).get("cost") is True,
    )


def _find_persisted(document_id: object, extensions: Mapping[str, Any]) -> str | None:
    query = extensions.get("persistedQuery")
    if query is not None:
        if not isinstance(query, dict) or query.get("version") != 1:
            raise InvalidParameters("`extensions.persistedQuery` must be an object of version 1.")
        document_id = query.get("sha256Hash")
    if query is None and document_id is None:
        return None
    if not isinstance(document_id, str) or not 0 < len(document_id) <= MAX_ID_LENGTH:
        raise InvalidParameters(
            f"A document is named by a text of at most {MAX_ID_LENGTH} characters."
        )
    return document_id
