"""What fal's endpoints take, written down again from fal's schemas, not from our own code.

fal passes over fields that a model does not know. Here they are refused, so that a mistyped field
is found out.
"""

from collections.abc import Mapping
from typing import Any, Final

from tests.simulators.checks import Check, is_bool, is_words, links, one_of, whole

RATIOS: Final = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")
PRESETS: Final = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_SEEDREAM_PIXELS: Final = range(2560 * 1440, 4096 * 4096 + 1)


def _seedream_size(value: Any) -> bool:
    if isinstance(value, str):
        return value in {*PRESETS, "auto_2K", "auto_4K"}
    return (
        set(value) == {"width", "height"} and value["width"] * value["height"] in _SEEDREAM_PIXELS
    )


def _flux_size(value: Any) -> bool:
    return value in PRESETS if isinstance(value, str) else set(value) == {"width", "height"}


_COMMON: Final[Mapping[str, Check]] = {"prompt": is_words, "sync_mode": is_bool}
_SEED: Final[Mapping[str, Check]] = {"seed": whole(0, 2**31 - 1)}
_ANY_FORMAT: Final[Mapping[str, Check]] = {"output_format": one_of("png", "jpeg", "webp")}
_TOLERANCE: Final[Mapping[str, Check]] = {"safety_tolerance": one_of(*"123456")}
_GEMINI: Final[Mapping[str, Check]] = {
    **_COMMON,
    **_SEED,
    **_ANY_FORMAT,
    **_TOLERANCE,
    "aspect_ratio": one_of(*RATIOS),
    "num_images": whole(1, 4),
    "limit_generations": is_bool,
}
_GEMINI_PRO: Final[Mapping[str, Check]] = {
    **_GEMINI,
    "aspect_ratio": one_of("auto", *RATIOS),
    "resolution": one_of("1K", "2K", "4K"),
    "enable_web_search": is_bool,
}
_SEEDREAM: Final[Mapping[str, Check]] = {
    **_COMMON,
    **_SEED,
    "image_size": _seedream_size,
    "num_images": whole(1, 6),
    "max_images": whole(1, 6),
    "enable_safety_checker": is_bool,
}
_FLUX: Final[Mapping[str, Check]] = {
    **_COMMON,
    **_SEED,
    "image_size": _flux_size,
    "output_format": one_of("jpeg", "png"),
    "safety_tolerance": one_of(*"12345"),
    "enable_safety_checker": is_bool,
}
_REFERENCES: Final = "image_urls"

MODELS: Final[Mapping[str, Mapping[str, Check]]] = {
    "fal-ai/gemini-25-flash-image": _GEMINI,
    "fal-ai/gemini-25-flash-image/edit": {
        **_GEMINI,
        "aspect_ratio": one_of("auto", *RATIOS),
        _REFERENCES: links(100),
    },
    "fal-ai/nano-banana-pro": _GEMINI_PRO,
    "fal-ai/nano-banana-pro/edit": {**_GEMINI_PRO, _REFERENCES: links(14)},
    "fal-ai/bytedance/seedream/v4.5/text-to-image": _SEEDREAM,
    "fal-ai/bytedance/seedream/v4.5/edit": {**_SEEDREAM, _REFERENCES: links(10)},
    "fal-ai/kling-image/o1": {
        **_COMMON,
        **_ANY_FORMAT,
        "aspect_ratio": one_of("auto", "16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9"),
        "resolution": one_of("1K", "2K"),
        "num_images": whole(1, 9),
        "elements": lambda value: isinstance(value, list),
        _REFERENCES: links(10),
    },
    "fal-ai/flux-2-max": _FLUX,
    "fal-ai/flux-2-max/edit": {**_FLUX, _REFERENCES: links(10)},
}
TELLS_SEED: Final = frozenset(
    {
        "fal-ai/bytedance/seedream/v4.5/text-to-image",
        "fal-ai/flux-2-max",
        "fal-ai/flux-2-max/edit",
    }
)
TELLS_TEXT: Final = frozenset(name for name in MODELS if "gemini" in name or "banana" in name)


def faults_of(endpoint: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`detail` of the 422 that a payload is answered with; empty where it is right."""
    checks = MODELS[endpoint]
    faults = []
    for name in ("prompt", *((_REFERENCES,) if _REFERENCES in checks else ())):
        if name not in payload:
            faults.append(_fault(name, "missing", "Field required"))
    for name, value in payload.items():
        if name not in checks:
            faults.append(_fault(name, "extra_forbidden", "Extra inputs are not permitted"))
        elif not checks[name](value):
            faults.append(_fault(name, "value_error", "Value not permitted"))
    return faults


def ratio_of(payload: Mapping[str, Any]) -> float:
    """Width to height of what is asked for."""
    size = payload.get("image_size")
    if isinstance(size, str) and size in PRESETS:
        width, height = PRESETS[size]
    elif isinstance(size, dict):
        width, height = size["width"], size["height"]
    else:
        words = str(payload.get("aspect_ratio", "1:1")).split(":")
        width, height = map(int, words if len(words) == 2 else ("1", "1"))
    return float(width / height)


def _fault(field: str, kind: str, words: str) -> dict[str, Any]:
    return {"loc": ["body", field], "msg": words, "type": kind}
