"""Decodes uploads in a sandbox: each in a process of its own, which is allowed little.

A decoder that hangs, takes too much memory, crashes or is taken over by its input can only harm
that process. The answer of the process is checked as thoroughly as a client's input.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import structlog

from domain.errors import Overloaded, PictureRefused, UserErrorCode
from domain.images import EXTENSIONS, UPLOAD_EXTENSIONS, ProcessedImage, Rendition
from domain.ports.imaging import HEIC_UNSUPPORTED
from domain.ports.objects import MAX_OBJECT_BYTES
from storage.imaging.containers import content_type_of
from storage.imaging.heif import HEIC, HEIC_TYPES, can_read_heif
from storage.imaging.sandbox_child import (
    DAMAGED,
    LENGTH_BYTES,
    MAX_SIDE,
    MIN_SIDE,
    READY,
    TOO_LARGE,
    TOO_SLOW,
    WITH_HEIF,
    Limits,
)

_ROOT: Final = Path(__file__).parents[2]
_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
"""The environment of a child: where Python is. No keys, whatever their names are."""
_MAX_ANSWER_BYTES: Final = MAX_OBJECT_BYTES + 4_000_000
_MAX_LINE_BYTES: Final = 4_096
_UNSUPPORTED: Final = "This file is not a PNG, JPEG, WebP or HEIC image."
_STORED_TYPES: Final = {name: (name,) for name in EXTENSIONS} | {HEIC: ("image/jpeg", "image/webp")}
"""The types that an upload of each type may have after it."""
_EXTERNAL_SIGNALS: Final = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""Signals that no image causes: the child was ended by Darkroom, by another process, or for lack of
memory.
"""

log = structlog.get_logger(__name__)


class UploadSandbox:
    """An `UploadProcessor` with a new process for each upload, a few at the same time, the others
    in order.

    On macOS the memory of a child is limited only by the size of its image.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        children: int = 2,
        max_waiting: int = 32,
        max_wait_seconds: float = 2.0,
        max_child_seconds: float = 9.0,
    ) -> None:
        self._limits = limits or Limits()
        self._capacity = asyncio.Semaphore(children)
        self._waiting = 0
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._max_child_seconds = max_child_seconds
        self._running: dict[asyncio.Task[ProcessedImage], _Child] = {}
        self.content_types: Collection[str] = tuple(
            content_type
            for content_type in UPLOAD_EXTENSIONS
            if content_type not in HEIC_TYPES or can_read_heif()
        )

    async def process_upload(self, data: bytes) -> ProcessedImage:
        """Process an upload. Raise `Overloaded` where there is no process for it in time, or the
        machine is too busy.
        """
        content_type = content_type_of(data)
        if content_type is None:
            raise PictureRefused(UserErrorCode.UPLOAD_TYPE_UNSUPPORTED, _UNSUPPORTED)
        if content_type not in self.content_types:
            raise PictureRefused(UserErrorCode.UPLOAD_TYPE_UNSUPPORTED, HEIC_UNSUPPORTED)
        await self._wait_for_capacity()
        child = _Child()
        task = asyncio.create_task(self._run(child, data, content_type), name="upload's child")
        self._running[task] = child
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        finally:
            child.drop()

    async def aclose(self) -> None:
        """End the processes that are running."""
        for child in self._running.values():
            child.drop()
        while self._running:
            await asyncio.wait(self._running)

    async def _wait_for_capacity(self) -> None:
        if self._waiting >= self._max_waiting:
            raise Overloaded
        self._waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await self._capacity.acquire()
        except TimeoutError as error:
            raise Overloaded from error
        finally:
            self._waiting -= 1

    def _forget(self, task: asyncio.Task[ProcessedImage]) -> None:
        """Free its capacity: only now has the process ended."""
        del self._running[task]
        self._capacity.release()
        if not task.cancelled():
            task.exception()

    async def _run(self, child: "_Child", data: bytes, content_type: str) -> ProcessedImage:
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *(sys.executable, "-m", "storage.imaging.sandbox_child", str(self._limits)),
                *((WITH_HEIF,) if content_type == HEIC else ()),
                cwd=_ROOT,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                stderr=asyncio.subprocess.DEVNULL,
                # Ctrl-C in a terminal is for the parent, which lets the child finish.
                start_new_session=True,
            )
        except OSError as error:
            log.error("sandbox cannot be started", error=repr(error))
            raise Overloaded from error
        child.send(len(data).to_bytes(LENGTH_BYTES, "big"), data)
        await asyncio.wait([child.ended], timeout=self._max_child_seconds)
        child.kill()
        await child.ended
        if child.is_dropped:
            raise Overloaded  # Nobody waits for this result, so it is not logged.
        return _result_of(child, content_type)


class _Child(asyncio.SubprocessProtocol):
    """One process, from its start to its end."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer = bytearray()
        self.returncode: int | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self.is_dropped = False
        """Whether nobody waits for its answer any more."""
        self._is_killed = False

    def drop(self) -> None:
        self.is_dropped = True
        self.kill()

    def kill(self) -> None:
        self._is_killed = True
        if self._transport is not None and not self.ended.done():
            with suppress(ProcessLookupError):
                self._transport.kill()

    def send(self, *parts: bytes) -> None:
        assert self._transport is not None
        stdin = cast(asyncio.WriteTransport | None, self._transport.get_pipe_transport(0))
        # It may have ended already; then uvloop accepts no input for it.
        if stdin is not None and not stdin.is_closing():
            stdin.writelines(parts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        if self._is_killed:
            self.kill()

    def pipe_data_received(self, _: int, data: bytes) -> None:
        self.answer += data
        if len(self.answer) > _MAX_ANSWER_BYTES:
            self.kill()

    def process_exited(self) -> None:
        assert self._transport is not None
        self.returncode = self._transport.get_returncode()
        if stdin := self._transport.get_pipe_transport(0):
            stdin.close()

    def connection_lost(self, _: Exception | None) -> None:
        assert self._transport is not None
        self._transport.close()
        if not self.ended.done():
            self.ended.set_result(None)


def _result_of(child: _Child, content_type: str) -> ProcessedImage:
    """The child's answer, or the error that describes what happened to it."""
    answer, returncode = bytes(child.answer), child.returncode
    if not answer.startswith(READY):
        log.error("sandbox did not start", returncode=returncode)
        raise Overloaded
    if len(answer) > _MAX_ANSWER_BYTES:
        raise _invalid(TOO_LARGE, "endless answer")
    ended_by = -returncode if returncode is not None and returncode < 0 else None
    if ended_by in _EXTERNAL_SIGNALS:
        log.warning("sandbox was stopped by a signal", returncode=returncode)
        raise Overloaded
    if ended_by in (signal.SIGPROF, signal.SIGXCPU):
        raise _invalid(TOO_SLOW, "no time left")
    if returncode != 0:
        raise _invalid(DAMAGED, f"process ended with {returncode}")
    try:
        return _read_answer(memoryview(answer)[len(READY) :], content_type)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _invalid(DAMAGED, f"not an answer: {error!r}") from error


def _read_answer(answer: memoryview, content_type: str) -> ProcessedImage:
    """Read the child's answer. Raise any exception if it is not one."""
    line, _, _ = bytes(answer[:_MAX_LINE_BYTES]).partition(b"\n")
    described: Any = json.loads(line)
    if isinstance(described, list):
        code, message, detail = described
        raise _refused(UserErrorCode(code), str(message), str(detail))
    position = len(line) + 1
    renditions: list[Rendition] = []
    for found_type, width, height, byte_size in described["renditions"]:
        data = bytes(answer[position : position + byte_size])
        position += byte_size
        expected_types = ("image/webp",) if renditions else _STORED_TYPES[content_type]
        if (
            found_type not in expected_types
            or content_type_of(data) != found_type
            or not 0 < len(data) == byte_size <= MAX_OBJECT_BYTES
            or not MIN_SIDE <= max(width, height) <= MAX_SIDE
            or not min(width, height) > 0
        ):
            raise ValueError("an impossible rendition")
        renditions.append(Rendition(data=data, content_type=found_type, width=width, height=height))
    if position != len(answer):
        raise ValueError("not as many bytes as announced")
    original, *thumbnails = renditions
    return ProcessedImage(
        original=original, thumbhash=str(described["thumbhash"]), thumbnails=tuple(thumbnails)
    )


def _invalid(message: str, detail: str) -> PictureRefused:
    return _refused(UserErrorCode.UPLOAD_INVALID, message, detail)


def _refused(code: UserErrorCode, message: str, detail: str) -> PictureRefused:
    log.info("upload refused", code=code, detail=detail)
    return PictureRefused(code, message)
