"""What becomes of a viewer's file, and of a provider's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from domain.images import ProcessedImage
from storage.imaging.containers import read_container
from storage.imaging.decoding import decode
from storage.imaging.renditions import develop_anew
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.sandbox_child import MAX_PIXELS
from storage.imaging.threaded import ThreadedImageProcessor

PATIENCE_SECONDS = 20.0

Process: TypeAlias = Callable[[bytes], Awaitable[ProcessedImage]]


@asynccontextmanager
async def processing(whose: str) -> AsyncIterator[Process]:
    """`uploaded`, `delivered`, or `uploaded here`: by the same code, but in this process, since a
    process for each takes longer than all the rest.
    """
    if whose == "uploaded here":
        yield _process_here
    elif whose == "uploaded":
        sandbox = UploadSandbox(max_wait_seconds=PATIENCE_SECONDS, max_child_seconds=60)
        yield sandbox.process_upload
        await sandbox.aclose()
    else:
        processor = ThreadedImageProcessor()
        yield processor.process
        await processor.aclose()


async def _process_here(data: bytes) -> ProcessedImage:
    container = read_container(data, max_pixels=MAX_PIXELS)
    return develop_anew(decode(container), container)
