"""What is written into an archive can be read from it, whatever its size."""

import os

from domain.execution.archives import ArchiveReader, ArchiveWriter

IMAGE = "images/img_00000000000000000000000000.png"


async def test_a_large_image_is_read_as_it_was_written() -> None:
    """It is stored as it is: uncompressed, in one piece."""
    writer, data, facts = ArchiveWriter(), os.urandom(6_000_000), {"images": [1, "é"]}
    await writer.add(IMAGE, data)
    await writer.add_json("manifest.json", facts)
    writer.end()
    archive = writer.take()
    longest = 0

    def read(start: int, count: int) -> bytes:
        nonlocal longest
        longest = max(longest, count)
        return archive[start : start + count]

    reader = ArchiveReader(read, len(archive))

    assert reader.read(IMAGE, max_bytes=len(data)) == data
    assert reader.read_json("manifest.json") == facts
    assert longest <= 1_000_000
