"""What a client says of an operation, `query`, `variables` and so on: alike in every transport."""

from collections.abc import Mapping
from typing import Any

from graphql import OperationType

from edge.outcomes import ALL_KINDS, Operation


class InvalidParameters(Exception):
    """The client has sent something else than the parameters of an operation."""


def read_parameters(
    found: Mapping[str, Any], kinds: frozenset[OperationType] = ALL_KINDS
) -> Operation:
    """Raise InvalidParameters. An empty name is none, as some clients send it for none."""
    document, name = found.get("query"), found.get("operationName")
    variables, extensions = found.get("variables"), found.get("extensions")
    if not isinstance(variables, dict | None):
        raise InvalidParameters("`variables` must be an object.")
    if not isinstance(extensions, dict | None):
        raise InvalidParameters("`extensions` must be an object.")
    if not isinstance(name, str | None):
        raise InvalidParameters("`operationName` must be a string.")
    if not document and extensions and extensions.get("persistedQuery") is not None:
        document = None
    elif not isinstance(document, str):
        raise InvalidParameters("`query` must be a GraphQL document.")
    return Operation(
        document=document,
        variables=variables,
        name=name or None,
        kinds=kinds,
        wants_cost=(extensions or {}).get("cost") is True,
    )
