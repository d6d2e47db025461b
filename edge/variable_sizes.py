"""The sizes of variables that the cost of an operation depends on."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from graphql import OperationDefinitionNode

from edge.query_limits import MAX_ITEMS

_TEXT_STEP: Final = 256
"""Texts are rounded up to a multiple of this, so that similar ones share a remembered cost."""


class VariableSize(NamedTuple):
    """The size of one variable. Operations that differ in nothing else cost the same."""

    number: float | None
    list_length: int
    """Of the longest list in it."""
    text: int
    """Characters of all its strings, rounded up to a multiple of 256."""


def measure_variables(
    operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> tuple[tuple[str, VariableSize], ...]:
    """The sizes of the variables that the operation declares, with their names."""
    names = (one.variable.name.value for one in operation.variable_definitions or ())
    return tuple((name, measure_value(variables[name])) for name in names if name in variables)


def measure_value(value: object) -> VariableSize:
    if isinstance(value, int | float):
        return VariableSize(value, 0, 0)
    length, text = _measure_parts(value)
    return VariableSize(None, length, -(-text // _TEXT_STEP) * _TEXT_STEP)


def _measure_parts(value: object) -> tuple[int, int]:
    """The length of the longest list (or of an object with too many fields), and all characters."""
    if isinstance(value, str):
        return 0, len(value)
    if not isinstance(value, list | dict):
        return 0, 0
    is_counted = isinstance(value, list) or len(value) > MAX_ITEMS
    length, text = len(value) if is_counted else 0, 0
    for part in value if isinstance(value, list) else value.values():
        if isinstance(part, str):
            text += len(part)
        elif isinstance(part, list | dict):
            longest, letters = _measure_parts(part)
            length, text = max(length, longest), text + letters
    return length, text
