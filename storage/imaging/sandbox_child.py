"""The process in which one upload is decoded: `python -m storage.imaging.sandbox_child`.

It reports that it is ready, reads one upload from its standard input, answers on its standard
output, and ends: when it has answered, at one of its limits, or with its parent. Nothing else is in
the process that the upload could reach: no settings, no connections, no other upload. `sandbox.py`
starts it. It imports as little as it can, since every upload waits for that.
"""

import fcntl
import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from domain.errors import UserErrorCode
from domain.images import ProcessedImage
from storage.imaging.container import SeveralFrames, WrongSize
from storage.imaging.containers import read_container
from storage.imaging.decoding import UNDECODABLE, decode
from storage.imaging.heif import load_library
from storage.imaging.renditions import reencode

MAX_PIXELS: Final = 40_000_000
MAX_SIDE: Final = 8_192
MIN_SIDE: Final = 16
MAX_PROFILE_BYTES: Final = 3_000_000
MAX_TEXT_BYTES: Final = 32_000_000
"""The size of texts, which are unpacked only to be counted: editors leave megabytes of history in
an image.
"""
READY: Final = b"ready\n"
WITH_HEIF: Final = "heif"
"""An argument after the limits: the upload is a HEIC."""
LENGTH_BYTES: Final = 8

TOO_SLOW: Final = "This image takes too long to decode."
TOO_LARGE: Final = "This image needs too much memory to decode."
DAMAGED: Final = "This file is damaged or cannot be decoded."
ANIMATED: Final = "Animated images are not supported. Upload a still image."
WRONG_SIZE: Final = (
    f"An image may have up to {MAX_PIXELS // 1_000_000} megapixels, "
    f"and sides of {MIN_SIDE} to {MAX_SIDE:,} pixels."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one upload. Times are processor time, so that other processes do not count.
    Memory is counted above what the process has before, and on Linux only.
    """

    decoding_seconds: float = 5.0
    decoding_bytes: int = 512 * 2**20
    seconds: float = 8.0
    """Of decoding and encoding together."""
    memory_bytes: int = 1_280 * 2**20
    """Once the image is decoded. Encoding 40 megapixels takes up to 1 GB as a WebP, 0.5 GB
    otherwise.
    """

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> "Limits":
        return Limits(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Refusal:
    code: UserErrorCode
    message: str
    detail: str
    """For the log."""


def process_within_limits(
    data: bytes, limits: Limits, *, memory_before: int
) -> ProcessedImage | Refusal:
    """Decode the upload within the limits. Exceeding a time limit ends the process."""
    started = time.process_time()
    try:
        _set_limits(limits.decoding_seconds, memory_before + limits.decoding_bytes)
        container = read_container(
            data,
            max_pixels=MAX_PIXELS,
            max_profile_bytes=MAX_PROFILE_BYTES,
            max_text_bytes=MAX_TEXT_BYTES,
            with_heif=True,
        )
        if not (
            min(container.width, container.height) >= MIN_SIDE
            and max(container.width, container.height) <= MAX_SIDE
        ):
            raise WrongSize(container.width, container.height)
        picture = decode(container)
        seconds_left = limits.seconds - (time.process_time() - started)
        _set_limits(max(seconds_left, 0.001), memory_before + limits.memory_bytes)
        return reencode(picture, container)
    except WrongSize as error:
        return _invalid(WRONG_SIZE, error)
    except SeveralFrames as error:
        return _invalid(ANIMATED, error)
    except MemoryError as error:
        return _invalid(TOO_LARGE, error)
    except UNDECODABLE as error:
        return _invalid(DAMAGED, error)
    finally:
        _set_limits(0, None)


def _invalid(message: str, error: BaseException) -> Refusal:
    detail = f"{type(error).__name__}: {error}"
    return Refusal(UserErrorCode.UPLOAD_INVALID, message, detail[:200])


def _set_limits(seconds: float, memory_bytes: int | None) -> None:
    """Set limits from here on; 0 and None remove them."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if sys.platform == "linux":
        _, highest = resource.getrlimit(resource.RLIMIT_AS)
        if highest != resource.RLIM_INFINITY:
            memory_bytes = min(highest, memory_bytes or highest)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes or highest, highest))


def memory_in_use() -> int:
    """The address space of the process, as its limit counts it; 0 where there is no such limit."""
    if sys.platform != "linux":
        return 0
    pages = Path("/proc/self/statm").read_bytes().split()[0]
    return int(pages) * resource.getpagesize()


def drop_rights(limits: Limits) -> None:
    """Give up rights of this process for good, in case that a decoder is taken over or loops.

    After this nothing can be opened: no file, no socket, no pipe.
    """
    # Pillow otherwise loads encoders when it first encodes.
    Image.preinit()
    seconds = math.ceil(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _end_with_parent(stdin: int) -> None:
    """End the process with its parent, which keeps the other end open for as long as it waits."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    # Where a system has no such signal for pipes, only the time limits end the process.
    with suppress(OSError):
        fcntl.fcntl(stdin, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(stdin, fcntl.F_SETFL, fcntl.fcntl(stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([stdin], [], [], 0)[0]:
        sys.exit("the parent has gone")


def main(arguments: Sequence[str]) -> None:
    limits = Limits.read(arguments[0])
    if WITH_HEIF in arguments:
        # Not later: once the rights are given up, nothing can be loaded.
        load_library()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    memory_before = memory_in_use()
    drop_rights(limits)
    stdout.write(READY)
    stdout.flush()
    length = int.from_bytes(stdin.read(LENGTH_BYTES), "big")
    data = stdin.read(length)
    if len(data) != length:
        sys.exit("the parent has gone")
    _end_with_parent(stdin.fileno())
    for part in encode_answer(process_within_limits(data, limits, memory_before=memory_before)):
        stdout.write(part)
    stdout.flush()


def encode_answer(answer: ProcessedImage | Refusal) -> list[bytes]:
    """Write a line that describes the answer, and the bytes of the renditions."""
    if isinstance(answer, Refusal):
        return [json.dumps([answer.code, answer.message, answer.detail]).encode() + b"\n"]
    renditions = [answer.original, *answer.thumbnails]
    facts = [[r.content_type, r.width, r.height, len(r.data)] for r in renditions]
    line = json.dumps({"thumbhash": answer.thumbhash, "renditions": facts}).encode() + b"\n"
    return [line, *(rendition.data for rendition in renditions)]


if __name__ == "__main__":
    main(sys.argv[1:])
