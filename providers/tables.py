"""Builds dataclasses from tables of TOML. The types of the fields decide which values are valid.

What must stay true: nothing is converted silently. A value of another type, an unknown field, and a
missing one are errors that name the field.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

RowT = TypeVar("RowT")


class TableError(Exception):
    """A value cannot be used. `field` is its path, such as `aspect_ratios.0`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def build(kind: type[RowT], table: Mapping[str, Any], *, path: str = "") -> RowT:
    """Build the dataclass, or raise `TableError` at the first value that is not valid.

    A dataclass with a class method `parse` is read from a text. A value that is an instance of its
    field's type is used unchanged.
    """
    assert is_dataclass(kind)
    known = {field.name: field for field in fields(kind)}
    for name in table:
        if name not in known:
            raise TableError(path + name, "there is no such field")
    hints = _hints(kind)
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in table:
            raise TableError(path + name, "it is missing")
    values = {name: _read(hints[name], value, path + name) for name, value in table.items()}
    return kind(**values)


# To evaluate them takes longer than to read a row, and there are many rows of few types.
@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, path: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        # `T | None`: there is no null in TOML.
        (inner,) = (alternative for alternative in get_args(kind) if alternative is not type(None))
        return _read(inner, value, path)
    if origin in (tuple, frozenset):
        return origin(_read_items(get_args(kind)[0], value, path))
    if origin is not None:
        return _check(origin, value, path)
    if isinstance(kind, NewType):
        return _read(kind.__supertype__, value, path)
    if kind is object or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    if issubclass(kind, StrEnum):
        return _convert(kind, value, path=path, problem=f"it is one of {', '.join(kind)}")
    if hasattr(kind, "parse"):
        return _convert(kind.parse, value, path=path)
    if is_dataclass(kind):
        return build(kind, _check(Mapping, value, path), path=f"{path}.")  # type: ignore[arg-type]
    return _check(kind, value, path)


def _read_items(kind: Any, value: Any, path: str) -> list[Any]:
    items = _check(list, value, path)
    read = [_read(kind, item, f"{path}.{index}") for index, item in enumerate(items)]
    if len(set(read)) != len(read):
        raise TableError(path, "a value stands there twice")
    return read


def _convert(
    convert: Callable[[str], Any], value: Any, *, path: str, problem: str | None = None
) -> Any:
    try:
        return convert(_check(str, value, path))
    except ValueError as error:
        raise TableError(path, problem or str(error).rstrip(".")) from error


_NAMES: Final[Mapping[Any, str]] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    Sequence: "a list",
    Mapping: "a table",
    datetime: "an instant",
}


def _check(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TableError(path, f"it must be {_NAMES.get(kind, kind.__name__)}")
    return value
