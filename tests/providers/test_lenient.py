"""Responses are read as providers' own clients read them."""

import json
from math import inf, nan
from typing import Any

import pytest

from domain.outputs import MAX_COUNT, Usage, add_counts, total_usage
from providers.lenient import (
    count_of,
    is_yes,
    items_of,
    object_of,
    objects_of,
    parse_object,
    pick,
    text_of,
)
from providers.usage import usage_of


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(b'{"a": 1}', {"a": 1}, id="JSON"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', {"a": 1}, id="a byte order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), {"a": 1}, id="UTF-16"),
        pytest.param('{"a": 1}'.encode("utf-16-be"), {"a": 1}, id="UTF-16 without a mark"),
        pytest.param('{"a": 1}'.encode("utf-32"), {"a": 1}, id="UTF-32"),
        pytest.param(b'{"a": Infinity, "b": -Infinity}', {"a": inf, "b": -inf}, id="infinities"),
        pytest.param(b'{"a": "x \\ud83d"}', {"a": "x \ufffd"}, id="half a pair, escaped"),
        pytest.param(
            b'{"a": "\\udc4d\\ud83d"}', {"a": "\ufffd" * 2}, id="a pair in the wrong order"
        ),
        pytest.param(
            b'{"\\ud83d": ["\\udfff"]}', {"\ufffd": ["\ufffd"]}, id="half a pair in a name"
        ),
        pytest.param(b'{"a": "\\ud83d\\udc4d"}', {"a": "\U0001f44d"}, id="a whole pair"),
        pytest.param(
            b'{"a": "\xed\xa0\xbd!"}', {"a": "\ufffd\ufffd\ufffd!"}, id="half a pair in bytes"
        ),
        pytest.param(b'{"a": "\xff"}', {"a": "\ufffd"}, id="a byte that is no text"),
        pytest.param(b'{"a": "x\n\t\x00"}', {"a": "x\n\t\x00"}, id="control characters"),
        pytest.param(b'{"a": 1, "a": 2}', {"a": 2}, id="a name twice"),
        pytest.param(b'{"a": 1' + b"0" * 400 + b"}", {"a": 10**400}, id="a huge number"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"[1]", None, id="a list"),
        pytest.param(b"NaN", None, id="no object"),
        pytest.param(b'{"a": ', None, id="cut off"),
        pytest.param(b"<html>", None, id="HTML"),
        pytest.param(b'{"a":' * 100_000, None, id="deep"),
        pytest.param(b'{"a":' * 900 + b"NaN" + b"}" * 900, None, id="deep and odd"),
        pytest.param(b'{"a": ' + b"1" * 5000 + b"}", None, id="a number of 5,000 digits"),
    ],
)
def test_an_object_is_read_in_any_form(text: bytes, fields: Any) -> None:
    read = parse_object(text)
    if text.startswith(b'{"a":{"a":{"a"') and read is not None:
        read = None  # how deep is deep depends on the release of Python

    assert read == fields
    json.dumps(read, ensure_ascii=False).encode()


def test_nan_is_read() -> None:
    read = parse_object(b'{"score": NaN, "b": 1}')

    assert read is not None
    assert read["score"] != read["score"]
    assert read["b"] == 1


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *((0, 0), (7, 7), ("7", 7), (" 7 ", 7), ("7.0", 7), (7.0, 7), (MAX_COUNT, MAX_COUNT)),
        *((MAX_COUNT + 1, None), (2**31 + 1, None), (str(2**31), None), (10**400, None)),
        *((-1, None), ("-1", None), (1.5, None), ("1.5", None), (nan, None), (inf, None)),
        *((True, None), (None, None), ([], None), ({}, None), ("", None), ("seven", None)),
        *(("９", None), ("9" * 5000, None)),
    ],
)
def test_amounts_are_parsed(value: object, count: int | None) -> None:
    assert count_of(value) == count


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((True, True), (1, True), (1.0, True), ("true", True), ("True ", True), ("1", True)),
        *((False, False), (0, False), (2, False), ("false", False), ("", False), (None, False)),
        *(([True], False), ({}, False), (nan, False)),
    ],
)
def test_booleans_are_parsed(value: object, expected: bool) -> None:
    assert is_yes(value) is expected


def test_alternative_values_are_parsed() -> None:
    assert items_of(None) == objects_of(None) == objects_of("x") == []
    assert items_of("x") == ["x"]
    assert objects_of([None, 1, {"a": 1}, []]) == objects_of({"a": 1}) == [{"a": 1}]
    assert object_of([]) == object_of(None) == {}
    assert text_of(None) == text_of(1) == ""
    assert pick({"a": None, "b": 0}, "a", "b", "c") == 0
    assert pick({}, "a") is None


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"in": 1, "out": 2, "more": 3, "all": 6}, Usage(1, 5, 6)),
        ({"in": "1", "out": 2.0, "more": None, "all": "many"}, Usage(1, 2, None)),
        ({"in": 2**31, "out": MAX_COUNT, "more": 1, "all": 2**64}, None),
        ({"in": 1, "out": MAX_COUNT, "more": 1}, Usage(1, None, None)),
        *(({}, None), (None, None), ([{"in": 1}], None), ("free", None), (7, None)),
    ],
)
def test_token_counts_out_of_range_are_unknown(reported: object, usage: Usage | None) -> None:
    names = {"input_name": "in", "total_name": "all"}

    assert usage_of(reported, output_names=("out", "more"), **names) == usage


def test_amounts_out_of_range_are_unknown() -> None:
    most = Usage(MAX_COUNT, MAX_COUNT, 1)

    assert add_counts([None, 1, 2]) == 3
    assert add_counts([None]) is add_counts([]) is None
    assert total_usage([most, None, Usage(None, 1, 2)]) == Usage(MAX_COUNT, None, 3)
