"""How a file is processed, from a viewer and from a provider."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from domain.errors import PictureRefused
from domain.images import ProcessedImage
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.sandbox_child import Limits, Refusal, process_within_limits
from storage.imaging.threaded import ThreadedImageProcessor
from tests.waits import PATIENCE_SECONDS

NO_LIMITS = Limits(decoding_seconds=1e6, seconds=1e6)
ALL_MEMORY = 2**46

Process: TypeAlias = Callable[[bytes], Awaitable[ProcessedImage]]


@asynccontextmanager
async def processing(whose: str) -> AsyncIterator[Process]:
    """`uploaded`, `delivered`, or `uploaded here`: by what a child does, but in this process, since
    a child for each takes longer than all the rest.
    """
    if whose == "uploaded here":
        yield InThisProcess().process_upload
    elif whose == "uploaded":
        sandbox = UploadSandbox(max_wait_seconds=PATIENCE_SECONDS, max_child_seconds=60)
        yield sandbox.process_upload
        await sandbox.aclose()
    else:
        processor = ThreadedImageProcessor()
        yield processor.process
        await processor.aclose()


class InThisProcess:
    """Does here what a child does. Its limits are left to tests with children."""

    async def process_upload(self, data: bytes) -> ProcessedImage:
        answer = process_within_limits(data, NO_LIMITS, memory_before=ALL_MEMORY)
        if isinstance(answer, Refusal):
            raise PictureRefused(answer.code, answer.message)
        return answer
