"""JPEGs that have as many pixels as they say, of every kind: none of them is taken for a liar."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from storage.imaging.containers import read_container
from storage.imaging.scans import check_scan
from tests.storage.pictures import a_picture

SIZES = [(17, 16), (151, 17), (185, 186), (202, 800), (324, 853), (876, 492)]
ENCODINGS: list[dict[str, Any]] = [
    {},
    {"quality": 5},
    {"quality": 100, "subsampling": 0},
    {"progressive": True},
    {"restart_marker_blocks": 7},
    {"restart_marker_rows": 1, "quality": 90},
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_an_honest_jpeg_passes(mode: str, encoding: dict[str, Any]) -> None:
    for size in SIZES:
        gradient = Image.linear_gradient("L").resize(size)
        banner = Image.new("RGB", size, "white")
        banner.paste(a_picture(size[0], max(1, size[1] // 20)))
        for picture in (gradient, banner, a_picture(*size), Image.new("RGB", size, "teal")):
            written = BytesIO()
            picture.convert(mode).save(written, "JPEG", **encoding)
            check_scan(read_container(written.getvalue(), max_pixels=10_000_000).data)


def test_what_is_filled_up_before_a_marker_is_no_pixels() -> None:
    written = BytesIO()
    a_picture(324, 853).save(written, "JPEG", restart_marker_rows=1)
    filled = written.getvalue()[:-2] + b"\xff" * 5 + b"\xd9"

    check_scan(read_container(filled, max_pixels=10_000_000).data)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_picture_that_ends_as_grey_as_what_is_missing_passes(progressive: bool) -> None:
    for size in ((466, 531), (592, 881), (726, 342), (821, 892)):
        for restarts in (1, 2, 6, 13, 40):
            picture = Image.new("RGB", size, "grey")
            picture.paste(a_picture(size[0], size[1] // 9))
            written = BytesIO()
            picture.save(
                written, "JPEG", progressive=progressive, restart_marker_blocks=restarts, quality=90
            )
            check_scan(read_container(written.getvalue(), max_pixels=10_000_000).data)
