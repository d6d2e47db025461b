"""Server-sent events, in chunks of any size."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import nullcontext

import pytest

from providers.http import AnswerLost, AnswerUnusable
from providers.sse import Event, EventReader, read_events

Collected = list[tuple[str, str]]


class Text:
    def __init__(self) -> None:
        self.data = b""

    def feed(self, piece: bytes) -> None:
        self.data += piece


def collected(events: Iterable[Event[Text]]) -> Collected:
    return [(event.name, event.body.data.decode()) for event in events]


def read(stream: bytes, *, length: int | None = None) -> Collected:
    """The events of a stream that comes in pieces of this length."""
    reader, step = EventReader(Text), length or max(1, len(stream))
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    return [one for piece in pieces for one in collected(reader.feed(piece))]


STREAMS: list[tuple[str, bytes, Collected]] = [
    ("one event", b"data: one\n\n", [("message", "one")]),
    ("a name", b"event: partial\ndata: one\n\n", [("partial", "one")]),
    ("the name after its data", b"data: one\nevent: late\n\n", [("late", "one")]),
    ("the latest name counts", b"event: a\nevent: b\ndata: x\n\n", [("b", "x")]),
    (
        "a name is for one event",
        b"event: a\ndata: x\n\ndata: y\n\n",
        [("a", "x"), ("message", "y")],
    ),
    ("several lines of data", b"data: one\ndata: two\ndata:\n\n", [("message", "one\ntwo\n")]),
    ("one space is left out, no more", b"data:  two\n\n", [("message", " two")]),
    ("no space", b"data:one\n\n", [("message", "one")]),
    ("colons in data", b'data: {"a":"b:c"}\n\n', [("message", '{"a":"b:c"}')]),
    ("a field without a colon", b"data\n\n", [("message", "")]),
    (
        "line ends of two characters",
        b"event: a\r\ndata: x\r\n\r\ndata: y\r\n\r\n",
        [("a", "x"), ("message", "y")],
    ),
    ("returns alone", b"event: a\rdata: x\r\rdata: y\r\r", [("a", "x"), ("message", "y")]),
    ("line ends in turn", b"data: x\r\n\ndata: y\r\r\n", [("message", "x"), ("message", "y")]),
    ("comments", b": PROCESSING\n\n:\n\ndata: x\n: in between\ndata: y\n\n", [("message", "x\ny")]),
    ("ids and retries", b"id: 7\nretry: 10\ndata: x\n\n", [("message", "x")]),
    ("names of other fields", b"datas: x\ndat: y\nDATA: z\n\ndata: x\n\n", [("message", "x")]),
    ("an event without data", b"event: ping\n\ndata: x\n\n", [("message", "x")]),
    ("empty lines", b"\n\n\ndata: x\n\n\n\n", [("message", "x")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: x\n\n", [("message", "x")]),
    ("the last event is cut off", b"data: x\n\ndata: y\n", [("message", "x")]),
    ("the end", b"data: [DONE]\n\n", [("message", "[DONE]")]),
    ("a long unknown line", b"x" * 1000 + b"\ndata: x\n\n", [("message", "x")]),
]


@pytest.mark.parametrize(
    ("stream", "expected"), [pytest.param(*rest, id=name) for name, *rest in STREAMS]
)
def test_a_stream_is_parsed_alike_in_any_chunks(stream: bytes, expected: Collected) -> None:
    assert read(stream) == expected
    for length in range(1, len(stream)):
        assert read(stream, length=length) == expected


def test_endless_comments_are_not_buffered() -> None:
    reader = EventReader(Text)

    for field in (b":", b"id:", b"x"):
        for _ in range(1000):
            assert list(reader.feed(field + b" " * 10_000)) == []

    kept = [value for value in vars(reader).values() if isinstance(value, bytes)]
    assert sum(map(len, kept)) < 1000


def test_an_endless_field_name_is_invalid() -> None:
    reader = EventReader(Text)
    list(reader.feed(b"event:" + b"x" * 200))

    with pytest.raises(AnswerUnusable):
        list(reader.feed(b"x"))


async def test_an_error_of_the_handler_closes_the_stream() -> None:
    class Full(Text):
        def feed(self, piece: bytes) -> None:
            raise AnswerUnusable(f"no place for {len(piece)} more")

    closed = False

    async def pieces() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield b"data: x\n\n"
        finally:
            closed = True

    with pytest.raises(AnswerUnusable):
        async for _ in read_events(pieces(), Full):
            pass

    assert closed


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        (b"data: x\n\ndata: y\n", "y"),
        (b"data: x\n\ndata: y", "y"),
        (b"data: x\n\nevent: late\ndata: y\ndata: z", "y\nz"),
        (b"data: x\n\ndata: y\r", "y"),
        (b"data: x\n\n", None),
        (b"data: x\n\nevent: y\n", None),
        (b"data: x\n\n: y", None),
    ],
)
@pytest.mark.parametrize("breaks_off", [False, True])
async def test_the_last_event_is_returned_without_its_terminator(
    stream: bytes, last: str | None, breaks_off: bool
) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(stream), 4):
            yield stream[start : start + 4]
        if breaks_off:
            raise AnswerLost("broken off")

    seen: list[tuple[str, bool]] = []
    with pytest.raises(AnswerLost) if breaks_off else nullcontext():
        async for event in read_events(pieces(), Text):
            seen.append((event.body.data.decode(), event.is_whole))

    assert seen == [("x", True), *([(last, False)] if last is not None else [])]


async def test_events_are_returned_as_soon_as_they_are_complete() -> None:
    sent: list[bytes] = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        for piece in (b"data: x\n", b"\nda", b"ta: y\n\n"):
            sent.append(piece)
            yield piece

    seen = [(event.body.data, len(sent)) async for event in read_events(pieces(), Text)]

    assert seen == [(b"x", 2), (b"y", 3)]
