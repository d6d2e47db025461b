"""Whether a JPEG has as many pixels as it says.

Nothing in the file tells how many there are but the coded pixels themselves, and libjpeg takes any
number: what is missing comes out grey, what is too much is passed over. So the first scan is
decoded three times, quickly and at an eighth of its size: as it is, with more behind it, and with
another end. Nothing may change by the second, and something has to by the third.
"""

from contextlib import suppress
from io import BytesIO
from typing import Final

from PIL.JpegImagePlugin import JpegImageFile

from storage.imaging.containers import RESTART, BadContainer, end_of_first_scan

_ANYTHING: Final = bytes(37 * number % 251 for number in range(1, 251))
"""Codes of whatever they come out as; no marker among them."""
_SHARE_OF_END: Final = 16
"""So small a part of what is coded may be too much: some cameras fill up what they have begun."""
_MIN_SCAN_BYTES: Final = 1_000
"""In less than that, another end may come out the same by chance."""
_PERIOD: Final = 12
"""Whole pixels, of however many channels."""


def check_scan(data: bytes) -> None:
    """Raise `BadContainer` if it has less pixels than it says, or a good deal more."""
    end, restarts = end_of_first_scan(data)
    scan = data[:end]
    as_it_is = _small(scan)
    restart = bytes((0xFF, 0xD0 + restarts % 8))
    if _small(scan + _ANYTHING + restart + _ANYTHING) != as_it_is:
        raise BadContainer("JPEG with less pixels than it says")
    length = (end - data.rindex(b"\xff\xda", 0, end)) // _SHARE_OF_END
    # A picture of one colour may have codes for nothing else: any end comes out the same.
    plain = as_it_is[_PERIOD:] == as_it_is[:-_PERIOD]
    if length * _SHARE_OF_END >= _MIN_SCAN_BYTES and not plain:
        is_too_long = False
        begin = scan[:-length].rstrip(b"\xff")
        with suppress(OSError):  # what cannot be decoded with another end has been read to its end
            is_too_long = _small(begin + _another_end(scan[len(begin) :], restarts)) == as_it_is
        if is_too_long:
            raise BadContainer("JPEG with more pixels than it says")


def _another_end(replaced: bytes, restarts: int) -> bytes:
    """As long, and with as many restarts, the last of them all, as what is replaced had: what
    stands in for one that is missing is grey, as the picture may be there.
    """
    first = restarts - len(RESTART.findall(replaced))
    share = 1 + len(replaced) // (1 + restarts - first)
    codes = _ANYTHING * (2 + share // len(_ANYTHING))
    end = bytearray()
    for number in range(first, restarts + 1):
        start = share * number % len(_ANYTHING)
        end += codes[start : start + share] + bytes((0xFF, 0xD0 + number % 8))
    return bytes(end)


def _small(scan: bytes) -> bytes:
    file = JpegImageFile(BytesIO(scan + b"\xff\xd9"))
    file.draft(None, (1, 1))
    file.load()
    return file.tobytes()
