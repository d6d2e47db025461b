"""What tests of the sandbox for uploads share."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

from domain.errors import PictureRefused
from domain.images import ProcessedImage
from storage.imaging.sandbox import UploadSandbox
from tests.storage.pictures import a_picture, encoded
from tests.storage.processing import InThisProcess

Processor: TypeAlias = UploadSandbox | InThisProcess

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def our_processes() -> set[int]:
    """Processes that this one has started, also those that are dead and not forgotten yet."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(int(stat.parent.name))
    return found


async def process(processor: Processor, data: bytes) -> ProcessedImage:
    return await processor.process_upload(data)


async def refusal(processor: Processor, data: bytes) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        await processor.process_upload(data)
    assert str(refused.value).endswith(".")
    return refused.value


@cache
def slow_and_large() -> bytes:
    return encoded(a_picture(4_000, 3_000), "JPEG", progressive=True)
