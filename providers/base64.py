"""Decodes base64 as it arrives, so that an image is never held as text."""

import string
from binascii import Error, a2b_base64
from io import BytesIO
from typing import Final

from providers.http import AnswerUnusable
from providers.pictures import looks_like_picture

_STEP_LENGTH: Final = 2**18
"""How many characters are decoded at a time; a multiple of four."""
_ALPHABET: Final = (string.ascii_letters + string.digits + "+/").encode()
_END: Final = b"="
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
"""Translates the URL-safe alphabet to the usual one."""
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET + _END))
_BLANKS: Final = string.whitespace.encode()


class Base64Decoder:
    """Receives text piece by piece, and returns the bytes once they are complete.

    Either alphabet is accepted, with or without padding, and with line breaks. As in Python's own
    decoder, other characters are skipped and everything after the padding is ignored; but then the
    bytes must look like an image. Raises `AnswerUnusable` as soon as there are more than
    `max_bytes`.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # A BytesIO hands over its bytes without a copy.
        self._decoded = BytesIO()
        self._rest = b""
        self._has_ended = False
        self._is_doubtful = False
        self._is_whole = True

    def feed(self, text: bytes) -> None:
        for start in range(0, len(text), _STEP_LENGTH):
            self._take(text[start : start + _STEP_LENGTH])

    def finish(self) -> bytes | None:
        """The bytes; None where the text was not base64."""
        if not self._has_ended:
            self._end(self._clean(self._rest))
        with self._decoded as decoded:
            data = decoded.getvalue()
        is_base64 = self._is_whole and (not self._is_doubtful or looks_like_picture(data))
        return data if is_base64 else None

    def _take(self, text: bytes) -> None:
        if self._has_ended:
            self._pass_over(text)
            return
        text = self._rest + text
        whole = len(text) // 4 * 4
        quads, rest = text[:whole], text[whole:]
        try:
            # The usual case, in which nothing is copied again.
            data = a2b_base64(quads, strict_mode=True)
        except Error:
            self._take_odd(text)
            return
        self._keep(data)
        self._rest, self._has_ended = rest, quads.endswith(_END)
        if self._has_ended:
            self._pass_over(rest)

    def _take_odd(self, text: bytes) -> None:
        before, end, after = self._clean(text).partition(_END)
        whole = len(before) // 4 * 4
        self._keep(a2b_base64(before[:whole]))
        self._rest = before[whole:]
        if end:
            self._end(self._rest)
            self._pass_over(after)

    def _end(self, rest: bytes) -> None:
        self._has_ended = True
        rest = rest.rstrip(_END)
        self._is_whole = len(rest) != 1
        if self._is_whole:
            self._keep(a2b_base64(rest + _END * (-len(rest) % 4)))

    def _clean(self, text: bytes) -> bytes:
        """The base64 characters of a text, in the usual alphabet."""
        standard = text.translate(_STANDARD, _BLANKS)
        cleaned = standard.translate(None, _NOT_BASE64)
        self._is_doubtful = self._is_doubtful or len(cleaned) < len(standard)
        return cleaned

    def _pass_over(self, text: bytes) -> None:
        self._is_doubtful = self._is_doubtful or bool(text.strip(_BLANKS + _END))

    def _keep(self, data: bytes) -> None:
        if self._decoded.tell() + len(data) > self._max_bytes:
            raise AnswerUnusable(f"more than {self._max_bytes} bytes")
        self._decoded.write(data)
