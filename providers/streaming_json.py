"""Reads JSON that contains images as it arrives: images are decoded on the way.

A response of 20 MB of base64 would otherwise be in memory three times: as a body, as a string, as
bytes. What must stay true: no more is kept than images with a limited number of bytes together, and
a limited number of bytes of everything else.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from providers.base64 import Base64Decoder
from providers.http import MAX_BYTES, AnswerUnusable
from providers.lenient import Fields, parse_object

MAX_WORDS_BYTES: Final = 2**20
"""The size of a response without its images."""

_MAX_NAME_LENGTH: Final = 64
_MAX_DATA_HEADER_LENGTH: Final = 200
_DECIDING_LENGTH: Final = 8
"""Shorter values are not images; links show their colon within this many characters."""
_MARK: Final = re.compile(rb'["\\]')
_HEADER_END: Final = re.compile(rb'[",]')


class InlineJson:
    """One JSON document, fed piece by piece.

    A string under one of these names counts as an image, unless it is short or a link: it is
    decoded from base64, also in a `data:` URL, and its number stands in the fields instead. Other
    strings are unchanged; those of more than `max_string` bytes are left empty.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        max_bytes: int = MAX_BYTES,
        max_words: int = MAX_WORDS_BYTES,
        max_string: int | None = None,
    ) -> None:
        self._names = frozenset(name.encode() for name in names)
        self._bytes_left = max_bytes
        self._max_words = max_words
        self._max_string = max_words if max_string is None else max_string
        self._words = bytearray()
        self._pictures: list[bytes | None] = []
        self._read: Callable[[bytes, int], int] = self._outside_strings
        self._name = b""
        """The latest string, if it is short enough to be a name."""
        self._words_start = 0
        """Where the words begin that came after the latest string, or those of this one."""
        self._escaped = False
        self._is_long = False
        """Whether this string is left empty."""
        self._head = b""
        self._decoder: Base64Decoder | None = None
        """None where what counts as an image cannot be one."""

    def feed(self, piece: bytes) -> None:
        """Raise `AnswerUnusable` as soon as it is too large."""
        position = 0
        while position < len(piece):
            position = self._read(piece, position)

    @property
    def words(self) -> bytes:
        """Everything but the pictures."""
        return bytes(self._words)

    def fields(self) -> Fields | None:
        """The document's fields, once it is complete; None where it is not a JSON object."""
        return parse_object(self.words)

    def take(self, number: object) -> bytes | None:
        """The image of this number, which is forgotten here; None where there is none, or it could
        not be decoded.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            return None
        if not 0 <= number < len(self._pictures):
            return None
        picture, self._pictures[number] = self._pictures[number], None
        return picture

    def _outside_strings(self, piece: bytes, position: int) -> int:
        quote = piece.find(b'"', position)
        if quote < 0:
            self._keep(piece[position:])
            return len(piece)
        self._keep(piece[position:quote])
        is_value = self._words[self._words_start :].strip() == b":"
        if is_value and self._name in self._names:
            self._head, self._read = b"", self._at_start
        else:
            self._begin_string()
        return quote + 1

    def _in_string(self, piece: bytes, position: int) -> int:
        if self._escaped:
            self._escaped = False
            self._keep_string(piece[position : position + 1])
            return position + 1
        mark = _MARK.search(piece, position)
        end = mark.start() if mark else len(piece)
        self._keep_string(piece[position:end])
        if mark is None:
            return end
        if mark[0] == b"\\":
            self._escaped = True
            self._keep_string(b"\\")
        else:
            is_short = len(self._words) - self._words_start <= _MAX_NAME_LENGTH
            name = bytes(self._words[self._words_start :]) if is_short else b""
            self._end_string(_unescape(name) if b"\\" in name else name, b'"')
        return end + 1

    def _at_start(self, piece: bytes, position: int) -> int:
        """Find out whether a value is an image."""
        part = piece[position : position + _DECIDING_LENGTH - len(self._head)]
        mark = _MARK.search(part)
        if mark is not None:
            part = part[: mark.start()]
        self._head += part
        if mark is None and len(self._head) < _DECIDING_LENGTH:
            return position + len(part)
        if self._head.lower().startswith(b"data:"):
            self._read = self._in_header
        elif b":" in self._head or (mark is not None and mark[0] == b'"'):
            self._begin_string()
            self._keep(self._head)
        else:
            self._begin_picture()
            self._decode(self._head)
        return position + len(part)

    def _in_header(self, piece: bytes, position: int) -> int:
        mark = _HEADER_END.search(piece, position)
        end = mark.start() if mark else len(piece)
        self._head += piece[position:end]
        if mark is None and len(self._head) <= _MAX_DATA_HEADER_LENGTH:
            return end
        has_data = (
            mark is not None and mark[0] == b"," and len(self._head) <= _MAX_DATA_HEADER_LENGTH
        )
        self._begin_picture(is_base64=has_data and self._head.lower().endswith(b";base64"))
        return end + 1 if mark is not None and mark[0] == b"," else end

    def _in_picture(self, piece: bytes, position: int) -> int:
        # Twice as fast as looking for both at once.
        quote = piece.find(b'"', position)
        end = quote if quote >= 0 else len(piece)
        escape = piece.find(b"\\", position, end)
        end = escape if escape >= 0 else end
        self._decode(piece[position:end])
        if end == len(piece):
            return end
        if end == escape:
            self._head, self._read = b"\\", self._in_escape
        else:
            picture = self._decoder.finish() if self._decoder is not None else None
            self._bytes_left -= len(picture or b"")
            self._pictures.append(picture)
            self._end_string(b"", str(len(self._pictures) - 1).encode())
        return end + 1

    def _in_escape(self, piece: bytes, position: int) -> int:
        """Some providers write `/` and `=` in this way."""
        self._head += piece[position : position + 1]
        if len(self._head) == (6 if self._head[1:2] == b"u" else 2):
            self._decode(_unescape(self._head))
            self._read = self._in_picture
        return position + 1

    def _decode(self, text: bytes) -> None:
        if self._decoder is not None:
            self._decoder.feed(text)

    def _begin_string(self) -> None:
        self._keep(b'"')
        self._words_start, self._read, self._is_long = len(self._words), self._in_string, False

    def _begin_picture(self, *, is_base64: bool = True) -> None:
        self._decoder = Base64Decoder(max_bytes=self._bytes_left) if is_base64 else None
        self._read = self._in_picture

    def _end_string(self, name: bytes, closing: bytes) -> None:
        self._keep(closing)
        self._name, self._words_start, self._read = name, len(self._words), self._outside_strings

    def _keep_string(self, words: bytes) -> None:
        if self._is_long:
            return
        self._keep(words)
        if len(self._words) - self._words_start > self._max_string:
            del self._words[self._words_start :]
            self._is_long = True

    def _keep(self, words: bytes) -> None:
        if len(self._words) + len(words) > self._max_words:
            raise AnswerUnusable(f"more than {self._max_words} bytes beside pictures")
        self._words += words


def _unescape(text: bytes) -> bytes:
    """The inside of a JSON string, without its escapes; with `?` for characters that
    are not ASCII.
    """
    try:
        return str(json.loads(b'"' + text + b'"', strict=False)).encode("ascii", "replace")
    except ValueError:
        return b"?"
