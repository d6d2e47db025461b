"""The process in which one upload is developed: `python -m storage.imaging.sandbox_child LIMITS`.

It says that it is there, reads one upload from its standard input, answers on its standard output,
and ends: by itself, by one of its limits, or with its parent. Whatever the upload makes of it,
nothing else is in it: no settings, no connections, no other upload. It is started by
`sandbox.py`.

It imports as little as it can, since every upload waits for that.
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
from storage.imaging.renditions import develop_anew

MAX_PIXELS: Final = 40_000_000
MAX_SIDE: Final = 8_192
MIN_SIDE: Final = 16
MAX_PROFILE_BYTES: Final = 3_000_000
MAX_TEXT_BYTES: Final = 32_000_000
"""Unpacked, which nobody does but to count: editors leave megabytes of history in a picture."""
READY: Final = b"ready\n"
LENGTH_BYTES: Final = 8

TOO_SLOW: Final = "This image takes too long to decode."
TOO_LARGE: Final = "This image needs too much memory to decode."
DAMAGED: Final = "This file is damaged or cannot be decoded."
MOVES: Final = "Animated images are not supported. Upload a still image."
WRONG_SIZE: Final = (
    f"A picture may have up to {MAX_PIXELS // 1_000_000} megapixels, "
    f"and sides of {MIN_SIDE} to {MAX_SIDE:,} pixels."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one upload may take. Times are the processor's: that others are busy is not its fault.

    Memory is counted above what the process has before, and on Linux only.
    """

    decoding_seconds: float = 5.0
    decoding_bytes: int = 512 * 2**20
    seconds: float = 8.0
    """Altogether."""
    memory_bytes: int = 1_280 * 2**20
    """Once it is decoded. To encode 40 megapixels takes up to 1 GB as a WebP, 0.5 GB otherwise."""

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


def answer_to(data: bytes, limits: Limits, *, memory_before: int) -> ProcessedImage | Refusal:
    """Develop it within the limits. Those of time end the process."""
    started = time.process_time()
    try:
        _allow(limits.decoding_seconds, memory_before + limits.decoding_bytes)
        container = read_container(
            data,
            max_pixels=MAX_PIXELS,
            max_profile_bytes=MAX_PROFILE_BYTES,
            max_text_bytes=MAX_TEXT_BYTES,
        )
        if not (
            min(container.width, container.height) >= MIN_SIDE
            and max(container.width, container.height) <= MAX_SIDE
        ):
            raise WrongSize(container.width, container.height)
        picture = decode(container)
        left = limits.seconds - (time.process_time() - started)
        _allow(max(left, 0.001), memory_before + limits.memory_bytes)
        return develop_anew(picture, container)
    except WrongSize as error:
        return _invalid(WRONG_SIZE, error)
    except SeveralFrames as error:
        return _invalid(MOVES, error)
    except MemoryError as error:
        return _invalid(TOO_LARGE, error)
    except UNDECODABLE as error:
        return _invalid(DAMAGED, error)
    finally:
        _allow(0, None)


def _invalid(message: str, error: BaseException) -> Refusal:
    detail = f"{type(error).__name__}: {error}"
    return Refusal(UserErrorCode.UPLOAD_INVALID, message, detail[:200])


def _allow(seconds: float, memory_bytes: int | None) -> None:
    """From here on; 0 and None lift the limits."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if sys.platform == "linux":
        _, highest = resource.getrlimit(resource.RLIMIT_AS)
        if highest != resource.RLIM_INFINITY:
            memory_bytes = min(highest, memory_bytes or highest)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes or highest, highest))


def memory_in_use() -> int:
    """Addresses that the process has, as its limit counts them; 0 where there is no such limit."""
    if sys.platform != "linux":
        return 0
    pages = Path("/proc/self/statm").read_bytes().split()[0]
    return int(pages) * resource.getpagesize()


def lock_up(limits: Limits) -> None:
    """What cannot be undone in this process, in case that a decoder is taken over or loops.

    Nothing can be opened any more: no file, no socket, no pipe.
    """
    # Encoders that Pillow otherwise loads when it first encodes.
    Image.preinit()
    seconds = math.ceil(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for none_of_it in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(none_of_it, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _end_with_parent(stdin: int) -> None:
    """The parent keeps the other end open for as long as it wants an answer."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    # Where a system has no such signal for pipes, the limits of time are left.
    with suppress(OSError):
        fcntl.fcntl(stdin, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(stdin, fcntl.F_SETFL, fcntl.fcntl(stdin, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([stdin], [], [], 0)[0]:
        sys.exit("nobody wants an answer")


def main(arguments: Sequence[str]) -> None:
    limits = Limits.read(arguments[0])
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    memory_before = memory_in_use()
    lock_up(limits)
    stdout.write(READY)
    stdout.flush()
    length = int.from_bytes(stdin.read(LENGTH_BYTES), "big")
    data = stdin.read(length)
    if len(data) != length:
        sys.exit("nobody wants an answer")
    _end_with_parent(stdin.fileno())
    for part in encoded_answer(answer_to(data, limits, memory_before=memory_before)):
        stdout.write(part)
    stdout.flush()


def encoded_answer(answer: ProcessedImage | Refusal) -> list[bytes]:
    """A line that tells what follows, and the bytes of the renditions."""
    if isinstance(answer, Refusal):
        return [json.dumps([answer.code, answer.message, answer.detail]).encode() + b"\n"]
    renditions = [answer.original, *answer.thumbnails]
    facts = [[r.content_type, r.width, r.height, len(r.data)] for r in renditions]
    line = json.dumps({"thumbhash": answer.thumbhash, "renditions": facts}).encode() + b"\n"
    return [line, *(rendition.data for rendition in renditions)]


if __name__ == "__main__":
    main(sys.argv[1:])
