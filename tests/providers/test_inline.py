"""JSON that contains pictures, and their base64."""

import json
import os
import tracemalloc
from base64 import b64encode

import pytest

from providers.base64 import Base64Decoder
from providers.http import AnswerUnusable
from providers.lenient import objects_of
from providers.streaming_json import InlineJson

PICTURE = bytes(range(256)) * 3
TEXT = b64encode(PICTURE).decode()


def read(text: str | bytes, *, length: int | None = None, max_bytes: int = 10_000) -> InlineJson:
    """Read in pieces of this length."""
    encoded = text.encode() if isinstance(text, str) else text
    document, step = InlineJson({"b64_json", "url"}, max_bytes=max_bytes, max_words=5000), length
    for start in range(0, len(encoded), step or max(1, len(encoded))):
        document.feed(encoded[start : start + (step or len(encoded))])
    return document


SPELLINGS: list[tuple[str, str]] = [
    ("as it is", f'{{"b64_json":"{TEXT}"}}'),
    ("with blanks", f'\n{{ "b64_json" :\t"{TEXT}" }} '),
    ("as a data link", f'{{"url":"data:image/png;base64,{TEXT}"}}'),
    ("as a data link with escapes", f'{{"url":"data:image\\/png;base64,{TEXT}"}}'),
    ("beginning with an escape", f'{{"b64_json":"\\u00{ord(TEXT[0]):02x}{TEXT[1:]}"}}'),
    ("with slashes escaped", f'{{"b64_json":"{TEXT}"}}'.replace("/", "\\/")),
    ("with escapes by number", f'{{"b64_json":"{TEXT}"}}'.replace("=", "\\u003d")),
    ("broken into lines", '{"b64_json":"' + "\\n".join([TEXT[:400], TEXT[400:]]) + '"}'),
]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SPELLINGS])
def test_an_inline_picture_is_decoded_in_any_form(text: str) -> None:
    for length in (*range(1, 40), 333, 1000, None):
        document = read(text, length=length)
        fields = document.fields()
        assert fields is not None
        (number,) = fields.values()
        assert document.take(number) == PICTURE
        assert document.take(number) is None


def test_all_other_fields_are_kept_unchanged() -> None:
    value = {
        "b64_json": "short",
        "url": 'https://example.com/a.png?q="x"',
        "other": TEXT,
        "text": 'say "b64_json": and \\ "url"',
        "list": ["b64_json", TEXT, {"url": "", "n": 7}, ["url", ":", "x" * 100]],
        "nested": {"b64_json": {"url": None}, "name": "b64_json", "ü": "snow ☃"},
        "usage": {"total": 12.5},
    }
    text = json.dumps(value)

    for length in (1, 2, 3, 7, 50, None):
        assert read(text, length=length).fields() == value


def test_several_pictures_keep_their_positions() -> None:
    pictures = [os.urandom(size) for size in (100, 1, 6, 7, 1000)]
    shown = [{"b64_json": b64encode(picture).decode()} for picture in pictures]

    document = read(json.dumps({"data": shown}))
    fields = document.fields()

    assert fields is not None
    data = fields["data"]
    assert isinstance(data, list)
    taken = [document.take(item["b64_json"]) for item in data]
    # A value of less than eight characters is not taken for a picture.
    assert taken == [pictures[0], None, *pictures[2:]]


@pytest.mark.parametrize("number", [True, -1, 1, "0", None, 0.0, [0]])
def test_an_invalid_index_refers_to_no_picture(number: object) -> None:
    assert read(f'{{"b64_json":"{TEXT}"}}').take(number) is None


@pytest.mark.parametrize(
    "value",
    [
        "A" * 997,
        "A" * 100 + "=" + "A" * 100,
        "AAAAAAA=AAAAAAAA",
        "*" * 100,
        "Just some words, no picture.",
        "AAAA\\x" * 100,
        "AAAA\\ud83d" * 100,
        "data:image/png,hello",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:" + "a" * 300,
        "data:" + "a" * 300 + ",AAAA",
    ],
)
def test_an_invalid_picture_does_not_affect_others(value: str) -> None:
    for length in (1, 5, None):
        document = read(
            f'{{"list":[{{"b64_json":"{value}"}},{{"b64_json":"{TEXT}"}}]}}', length=length
        )
        fields = document.fields()
        assert fields is not None
        broken, whole = [item["b64_json"] for item in objects_of(fields["list"])]
        assert not document.take(broken)
        assert document.take(whole) == PICTURE


PNG = b"\x89PNG" + PICTURE
PNG_TEXT = b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PNG_TEXT.replace("+", "-").replace("/", "_"), id="the alphabet for URLs"),
        pytest.param(PNG_TEXT.rstrip("="), id="no padding"),
        pytest.param(PNG_TEXT.rstrip("=") + "=", id="half the padding"),
        pytest.param(PNG_TEXT + "===", id="more padding"),
        pytest.param(PNG_TEXT + "\\n", id="a line end after it"),
        pytest.param(PNG_TEXT + "AAAA", id="more after the padding"),
        pytest.param(" \\t" + PNG_TEXT, id="blanks before it"),
        pytest.param(" ".join(PNG_TEXT[at : at + 7] for at in range(0, 2000, 7)), id="blanks"),
        pytest.param(PNG_TEXT[:99] + "," + PNG_TEXT[99:], id="a comma"),
        pytest.param("\ufeff" + PNG_TEXT, id="a byte order mark"),
        pytest.param("\\ufeff" + PNG_TEXT, id="a byte order mark that is escaped"),
        pytest.param(PNG_TEXT[:50] + "\\u0000" + PNG_TEXT[50:], id="NUL"),
        pytest.param(f"DATA:image/png;BASE64,{PNG_TEXT}", id="a data link in capitals"),
        pytest.param(f"data:;base64,{PNG_TEXT}", id="a data link without a type"),
    ],
)
def test_a_picture_in_unusual_base64_is_decoded_as_by_other_decoders(value: str) -> None:
    assert len(PNG_TEXT) % 4 == 0
    assert PNG_TEXT.endswith("==")
    for length in (*range(1, 12), 333, None):
        document = read(f'{{"b64_json":"{value}"}}', length=length)
        fields = document.fields()
        assert fields is not None
        assert document.take(fields["b64_json"]) == PNG


def test_a_field_name_can_contain_escapes() -> None:
    document = read(f'{{"b64\\u005fjson":"{TEXT}"}}')

    assert document.take((document.fields() or {})["b64_json"]) == PICTURE


@pytest.mark.parametrize("text", ["", "[]", "[DONE]", '{"a":', '{"a":"b', "<html>", "\x00", '"x"'])
def test_a_value_that_is_no_object_has_no_fields(text: str) -> None:
    document = read(text)

    assert document.fields() is None
    assert document.words == text.encode()


def test_a_truncated_picture_has_no_fields() -> None:
    assert read(f'{{"b64_json":"{TEXT}').fields() is None


def test_the_size_of_all_pictures_together_is_limited() -> None:
    many = json.dumps({"data": [{"b64_json": TEXT}] * 2})

    read(many, max_bytes=2 * len(PICTURE))
    with pytest.raises(AnswerUnusable):
        read(many, max_bytes=2 * len(PICTURE) - 1)


def test_the_size_of_text_is_limited() -> None:
    with pytest.raises(AnswerUnusable):
        read(b'{"text":"' + b"x" * 5000)
    with pytest.raises(AnswerUnusable):
        read(b" " * 5001)


def test_a_large_picture_takes_little_more_memory_than_its_bytes() -> None:
    size, piece = 8 * 2**20, 2**16
    document = InlineJson({"b64_json"})
    quads = b"AAAA" * (piece // 4)
    tracemalloc.start()
    try:
        document.feed(b'{"b64_json":"')
        for _ in range(size // 3 * 4 // piece):
            document.feed(quads)
        document.feed(b'"}')
        picture = document.take(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert picture is not None
    assert len(picture) > 0.99 * size
    assert peak < 1.3 * size


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 100, 300_000])
def test_base64_is_decoded_in_any_chunks(length: int) -> None:
    data = os.urandom(length)
    text = b64encode(data)
    for step in (7, 4096, 2**20):
        decoder = Base64Decoder(max_bytes=length)
        for start in range(0, len(text), step):
            decoder.feed(text[start : start + step])
        assert decoder.finish() == data


def test_base64_beyond_the_limit_is_unusable() -> None:
    with pytest.raises(AnswerUnusable):
        Base64Decoder(max_bytes=99).feed(b64encode(bytes(100)))


def test_strings_that_are_too_long_are_emptied() -> None:
    value = {"a": "x" * 100, "b": '"' * 60, "c": "y" * 99, "b64_json": TEXT}
    text = json.dumps(value).encode()

    for length in (1, 2, 3, 7, 50, len(text)):
        document = InlineJson({"b64_json"}, max_words=250, max_string=99)
        for start in range(0, len(text), length):
            document.feed(text[start : start + length])
        fields = document.fields()
        assert fields == {"a": "", "b": "", "c": "y" * 99, "b64_json": 0}
        assert document.take(0) == PICTURE
