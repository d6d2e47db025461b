"""What most providers call resolutions, formats and qualities."""

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
