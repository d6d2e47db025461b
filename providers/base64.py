"""Base64 that is decoded as it comes, so that a picture is never held as text."""

from binascii import Error, a2b_base64
from io import BytesIO
from typing import Final

from providers.http import AnswerUnusable

_STEP_LENGTH: Final = 2**18
"""A multiple of four: so much is decoded without a pause."""


class Base64Decoder:
    """Takes text piece by piece, and gives the bytes once they are whole.

    Raises `AnswerUnusable` as soon as it is no base64, or more than `max_bytes`.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # A BytesIO gives its bytes away without a copy.
        self._decoded = BytesIO()
        self._rest = b""
        self._ended = False

    def feed(self, text: bytes) -> None:
        for start in range(0, len(text), _STEP_LENGTH):
            self._take(self._rest + text[start : start + _STEP_LENGTH])

    def finish(self) -> bytes:
        if self._rest:
            raise AnswerUnusable("base64 that is not whole")
        with self._decoded as decoded:
            return decoded.getvalue()

    def _take(self, text: bytes) -> None:
        whole = len(text) // 4 * 4
        quads, self._rest = text[:whole], text[whole:]
        if self._ended and text:
            raise AnswerUnusable("base64 that goes on after its end")
        self._ended = quads.endswith(b"=")
        try:
            data = a2b_base64(quads, strict_mode=True)
        except Error as error:
            raise AnswerUnusable("no base64") from error
        if self._decoded.tell() + len(data) > self._max_bytes:
            raise AnswerUnusable(f"more than {self._max_bytes} bytes")
        self._decoded.write(data)
