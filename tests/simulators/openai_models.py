"""What the Images API accepts, transcribed from its documentation and not from our own code."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Check = Callable[[Any], bool]

PRESETS: Final = ("1024x1024", "1536x1024", "1024x1536")
SERVED: Final = frozenset(
    {"gpt-image-1.5", "gpt-image-2", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare"}
)
"""By OpenAI."""
DEPLOYMENTS: Final[Mapping[str, str]] = {
    **{model: model for model in SERVED},
    "gpt-image-1": "gpt-image-1",
    "our-pictures": "gpt-image-2",
}
"""At Azure: names of deployments, and their models."""
MAX_REFERENCES: Final = 16
_SIZE: Final = re.compile(r"([1-9]\d{2,3})x([1-9]\d{2,3})")
_AREAS: Final = range(655_360, 8_294_400 + 1)
_LONGEST: Final = 3840


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _whole(minimum: int, maximum: int) -> Check:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
    )


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 32_000


def _is_free_size(value: Any) -> bool:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return bool(value == "auto")
    width, height = int(match[1]), int(match[2])
    return (
        width % 16 == height % 16 == 0
        and max(width, height) <= _LONGEST
        and 1 / 3 <= width / height <= 3
        and width * height in _AREAS
    )


_OF_ALL: Final[Mapping[str, Check]] = {
    "model": _is_words,
    "prompt": _is_words,
    "n": _whole(1, 10),
    "background": _one_of("auto", "transparent", "opaque"),
    "moderation": _one_of("auto", "low"),
    "output_compression": _whole(0, 100),
    "stream": lambda value: isinstance(value, bool),
    "safety_identifier": _is_words,
}
_FIXED_SIZES: Final = frozenset({"gpt-image-1", "gpt-image-1.5"})


def fault_in(fields: Mapping[str, Any], *, model: str, azure: bool) -> str | None:
    """The first field that is not taken; None where all are."""
    if "prompt" not in fields:
        return "prompt"
    is_newest = model.startswith("gpt-image-2.5")
    qualities = ("low", "medium", "high", *(("xhigh", "max") if is_newest else ()))
    checks: dict[str, Check] = {
        **_OF_ALL,
        "size": _one_of("auto", *PRESETS) if model in _FIXED_SIZES else _is_free_size,
        "quality": _one_of(*qualities) if azure else _one_of("auto", *qualities),
        "output_format": _one_of("png", "jpeg") if azure else _one_of("png", "jpeg", "webp"),
        "partial_images": _whole(1, 3) if azure else _whole(0, 3),
    }
    for name, value in fields.items():
        if name not in checks or not checks[name](value):
            return name
    # A stream's events do not say to which of several pictures they belong.
    return "n" if fields.get("stream") and fields.get("n", 1) != 1 else None


def ratio_of(fields: Mapping[str, Any]) -> float:
    width, _, height = str(fields.get("size", "1024x1024")).partition("x")
    return int(width) / int(height) if height else 1.0
