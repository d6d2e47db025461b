"""The names that most providers use for resolutions, formats and qualities."""

import re
from collections.abc import Mapping
from typing import Final

from domain.models import ImageFormat, Quality, Resolution

RESOLUTIONS: Final[Mapping[Resolution, str]] = {
    Resolution.ONE_K: "1K",
    Resolution.TWO_K: "2K",
    Resolution.FOUR_K: "4K",
}
FORMATS: Final[Mapping[ImageFormat, str]] = {
    ImageFormat.PNG: "png",
    ImageFormat.JPEG: "jpeg",
    ImageFormat.WEBP: "webp",
}
QUALITIES: Final[Mapping[Quality, str]] = {
    Quality.LOW: "low",
    Quality.MEDIUM: "medium",
    Quality.HIGH: "high",
}
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:x-]{0,39}")


def word_of(value: object) -> str | None:
    """A provider's own word, such as `high` or `1024x1024`; None where there is no word."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None
