"""Long JSON is decoded in pieces, into what the standard decoder makes of it."""

import json
import random
from typing import Any, Final

import pytest

from domain.execution.long_json import decode_long_json
from tests.resilience.scale import SEED

LONG: Final = 30_000
"""Members that take more than a piece together."""
DEEP: Final[list[Any]] = [1] * LONG


def nested(levels: int) -> list[Any]:
    value = DEEP
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        7,
        "a",
        [[]] * LONG,
        [{"a": [1.5, None, True, "x"]}] * LONG,
        {f"{number}": {"é\\": number} for number in range(LONG)},
        {"turns": [{"text": '"],}{[' * LONG}, DEEP], "b": ["x" * 300_000, DEEP, {}]},
        nested(8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_long_values_are_decoded(value: object) -> None:
    for options in ({}, {"indent": 1}, {"separators": (" ,\t", "\n:\r")}):
        assert decode_long_json(json.dumps(value, ensure_ascii=False, **options)) == value


def test_random_values_are_decoded() -> None:
    chance = random.Random(SEED)

    def value(depth: int) -> Any:
        match chance.randrange(6 if depth else 3):
            case 0:
                return chance.choice([0, -1, 1e300, None, True])
            case 1 | 2:
                return chance.choice(["", "a", '\\"\n', "é", "]},"]) * chance.choice([1, 9_000])
            case 3:
                return {str(one): value(depth - 1) for one in range(chance.randrange(5))}
            case _:
                return [value(depth - 1) for _ in range(chance.choice([0, 1, 3, 12]))]

    for _ in range(100):
        made = value(5)
        assert decode_long_json(json.dumps(made)) == made


@pytest.mark.parametrize("end", ["", "]", "}", ",]", ":1]", '"]', "]]", "] 7", "nul]", ",,1]"])
@pytest.mark.parametrize("begin", ["[" + "[]," * LONG, '{"a":[' + '"x",' * LONG, "[" * 200_000])
def test_broken_text_is_refused(begin: str, end: str) -> None:
    """`[],` and `"x",` are followed by what is no value."""
    with pytest.raises((ValueError, RecursionError)):
        decode_long_json(begin + end)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode_long_json(json.dumps(nested(10)))
