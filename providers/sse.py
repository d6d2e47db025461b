"""Reads server-sent events as they arrive.

What must stay true: nothing is kept except a name and what the event's body keeps; what is not an
event's data, such as comments, is skipped however long it is.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from providers.http import AnswerLost, AnswerUnusable

DONE: Final = b"[DONE]"
"""The data by which some providers end a stream."""

_MAX_NAME_LENGTH: Final = 200
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data"
_EVENT: Final = b"event"
_FIELDS: Final = {_DATA, _EVENT}
"""The fields that are read. Others are not used here."""


class Body(Protocol):
    """Receives an event's data, piece by piece."""

    def feed(self, piece: bytes) -> None: ...


BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True)
class Event(Generic[BodyT]):
    name: str
    """`message` where none is given."""
    body: BodyT
    is_whole: bool = True
    """False if the stream has ended in it. Its body may be complete all the same."""


async def read_events(
    pieces: AsyncGenerator[bytes, None], new_body: Callable[[], BodyT]
) -> AsyncGenerator[Event[BodyT], None]:
    """The events of a stream that arrives in pieces, wherever it is cut.

    The last one need not have an end. If the stream breaks off, it comes before the error.
    """
    reader = EventReader(new_body)
    broken: AnswerLost | None = None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                for event in reader.feed(piece):
                    yield event
    except AnswerLost as error:
        broken = error
    last = reader.finish()
    if last is not None:
        yield last
    if broken is not None:
        raise broken


class EventReader(Generic[BodyT]):
    """The events in the pieces that it is given."""

    def __init__(self, new_body: Callable[[], BodyT]) -> None:
        self._new_body = new_body
        self._body: BodyT | None = None
        self._name = b""
        self._line = b""
        """The line's field, until its colon has arrived."""
        self._field: bytes | None = None
        """The line's field, once it is known."""
        self._at_value = False
        """Whether nothing of the line's value has come yet."""
        self._line_is_empty = True
        self._is_first_line = True
        self._after_return = False
        """Whether a line feed would be the second half of a line end."""

    def feed(self, piece: bytes) -> Iterator[Event[BodyT]]:
        start = 0
        if piece and self._after_return:
            start = int(piece.startswith(b"\n"))
            self._after_return = False
        while (end := _line_end(piece, start)) >= 0:
            self._take(piece[start:end])
            event = self._end_line()
            if event is not None:
                yield event
            is_return = piece.startswith(b"\r", end)
            start = end + (2 if is_return and piece.startswith(b"\n", end + 1) else 1)
            self._after_return = is_return and start == len(piece) == end + 1
        self._take(piece[start:])

    def finish(self) -> Event[BodyT] | None:
        """The event in which the stream has ended, if any."""
        if not self._line_is_empty:
            self._end_line()
        return self._event(is_whole=False)

    def _take(self, part: bytes) -> None:
        """Read a part of a line."""
        if not part:
            return
        self._line_is_empty = False
        if self._field is None:
            self._line += part
            if self._is_first_line:
                self._line = self._line.removeprefix(_BYTE_ORDER_MARK)
                self._line_is_empty = not self._line
            field, colon, part = self._line.partition(b":")
            if not colon and len(field) <= _MAX_NAME_LENGTH:
                return
            self._begin_value(field)
        if self._at_value and part:
            self._at_value = False
            part = part.removeprefix(b" ")
        self._take_value(part)

    def _begin_value(self, field: bytes) -> None:
        self._line, self._field, self._at_value = b"", field if field in _FIELDS else b"", True
        if self._field == _EVENT:
            self._name = b""
        elif self._field == _DATA:
            if self._body is None:
                self._body = self._new_body()
            else:
                self._body.feed(b"\n")

    def _take_value(self, part: bytes) -> None:
        if self._field == _DATA and self._body is not None:
            self._body.feed(part)
        elif self._field == _EVENT:
            self._name += part
            if len(self._name) > _MAX_NAME_LENGTH:
                raise AnswerUnusable("an event whose name does not end")

    def _end_line(self) -> Event[BodyT] | None:
        event = None
        if self._line_is_empty:
            event = self._event()
            self._body, self._name = None, b""
        elif self._field is None:
            self._begin_value(self._line)  # a field's name alone: its value is empty
        self._line, self._field, self._line_is_empty = b"", None, True
        self._is_first_line = False
        return event

    def _event(self, *, is_whole: bool = True) -> Event[BodyT] | None:
        if self._body is None:
            return None
        return Event(self._name.decode("utf-8", "replace") or "message", self._body, is_whole)


def _line_end(piece: bytes, start: int) -> int:
    """Where the next line ends; -1 where none does. Three times as fast as a regular expression."""
    feed = piece.find(b"\n", start)
    carriage_return = piece.find(b"\r", start, feed if feed >= 0 else len(piece))
    return carriage_return if carriage_return >= 0 else feed
