"""Reads `query`, `variables` and the other parameters of an operation, for every transport."""

from collections.abc import Mapping
from typing import Any, Final

from graphql import OperationType

from edge.outcomes import ALL_KINDS, Operation

MAX_PARTS: Final = 10_000
"""Objects and lists in the variables of one operation: each takes twenty times the memory of its
two characters.
"""
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
    parts = _count_parts(variables)
    excessive = parts if parts > MAX_PARTS else 0
    return Operation(
        document=document,
        variables=None if excessive else variables,
        excessive_parts=excessive,
        name=name or None,
        kinds=kinds,
        persisted=persisted,
        wants_cost=(extensions or {}).get("cost") is True,
    )


def _count_parts(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count_parts(one) for one in value.values() if isinstance(one, dict | list))
    if isinstance(value, list):
        return 1 + sum(_count_parts(one) for one in value if isinstance(one, dict | list))
    return 0


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
