"""What fal's endpoints accept, transcribed from fal's schemas and not from our own code.

fal passes over fields that a model does not know. Here they are refused, so that a mistyped field
is found out.
"""

from collections.abc import Mapping
from typing import Any, Final

from tests.simulators.checks import (
    Check,
    is_bool,
    is_link,
    is_words,
    links,
    number,
    one_of,
    whole,
)

RATIOS: Final = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")
PRESETS: Final = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_SEEDREAM_V4_PIXELS: Final = 921_600
_SEEDREAM_PIXELS: Final = range(2560 * 1440, 4096 * 4096 + 1)


def _seedream_size(value: Any) -> bool:
    if isinstance(value, str):
        return value in {*PRESETS, "auto_2K", "auto_4K"}
    return (
        set(value) == {"width", "height"} and value["width"] * value["height"] in _SEEDREAM_PIXELS
    )


def _seedream_v4_size(value: Any) -> bool:
    if isinstance(value, str):
        return value in {*PRESETS, "auto", "auto_2K", "auto_4K"}
    sides = value["width"], value["height"]
    return (
        set(value) == {"width", "height"}
        and sides[0] * sides[1] >= _SEEDREAM_V4_PIXELS
        and max(sides) <= 4096
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
_REFERENCE: Final = "image_url"
_PRESET_OR_SIZE: Final[Mapping[str, Check]] = {"image_size": _flux_size}
_REVE_RATIO: Final = one_of("16:9", "9:16", "3:2", "2:3", "4:3", "3:4", "1:1")
_REVE: Final[Mapping[str, Check]] = {**_COMMON, **_ANY_FORMAT, "num_images": whole(1, 4)}
_SEEDREAM_V4: Final[Mapping[str, Check]] = {
    **_SEEDREAM,
    "image_size": _seedream_v4_size,
    "enhance_prompt_mode": one_of("standard", "fast"),
}
_GPT: Final[Mapping[str, Check]] = {
    **_COMMON,
    **_ANY_FORMAT,
    "image_size": one_of("1024x1024", "1536x1024", "1024x1536"),
    "quality": one_of("low", "medium", "high"),
    "background": one_of("auto", "transparent", "opaque"),
    "num_images": whole(1, 4),
}
_HUNYUAN: Final[Mapping[str, Check]] = {
    **_COMMON,
    **_SEED,
    **_PRESET_OR_SIZE,
    "negative_prompt": is_words,
    "num_images": whole(1, 4),
    "num_inference_steps": whole(1, 50),
    "guidance_scale": number(1, 20),
    "enable_safety_checker": is_bool,
    "output_format": one_of("png", "jpeg"),
}

MODELS: Final[Mapping[str, Mapping[str, Check]]] = {
    "fal-ai/gemini-25-flash-image": _GEMINI,
    "fal-ai/gemini-25-flash-image/edit": {
        **_GEMINI,
        "aspect_ratio": one_of("auto", *RATIOS),
        _REFERENCES: links(100),
    },
    "fal-ai/nano-banana-pro": _GEMINI_PRO,
    "fal-ai/nano-banana-pro/edit": {**_GEMINI_PRO, _REFERENCES: links(14)},
    "fal-ai/imagen4/preview": {
        **_COMMON,
        **_SEED,
        **_ANY_FORMAT,
        **_TOLERANCE,
        "aspect_ratio": one_of("1:1", "16:9", "9:16", "4:3", "3:4"),
        "resolution": one_of("1K", "2K"),
        "num_images": whole(1, 4),
    },
    "fal-ai/bytedance/seedream/v4/text-to-image": _SEEDREAM_V4,
    "fal-ai/bytedance/seedream/v4/edit": {**_SEEDREAM_V4, _REFERENCES: links(10)},
    "fal-ai/flux-pro/kontext": {
        **_COMMON,
        **_SEED,
        "aspect_ratio": one_of("21:9", "16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "9:21"),
        "guidance_scale": number(1, 20),
        "num_images": whole(1, 4),
        "output_format": one_of("jpeg", "png"),
        **_TOLERANCE,
        "enhance_prompt": is_bool,
        _REFERENCE: is_link,
    },
    "fal-ai/gpt-image-1.5": _GPT,
    "fal-ai/gpt-image-1.5/edit": {
        **_GPT,
        "image_size": one_of("auto", "1024x1024", "1536x1024", "1024x1536"),
        "input_fidelity": one_of("low", "high"),
        "mask_image_url": is_link,
        _REFERENCES: links(16),
    },
    "fal-ai/hunyuan-image/v2.1/text-to-image": {
        **_HUNYUAN,
        "use_reprompt": is_bool,
        "use_refiner": is_bool,
    },
    "fal-ai/hunyuan-image/v3/text-to-image": {**_HUNYUAN, "enable_prompt_expansion": is_bool},
    "fal-ai/wan/v2.2-a14b/text-to-image": {
        "prompt": is_words,
        **_SEED,
        **_PRESET_OR_SIZE,
        "negative_prompt": is_words,
        "num_inference_steps": whole(1, 50),
        "guidance_scale": number(1, 20),
        "guidance_scale_2": number(1, 20),
        "shift": number(1, 10),
        "acceleration": one_of("none", "regular"),
        "enable_prompt_expansion": is_bool,
        "enable_safety_checker": is_bool,
        "enable_output_safety_checker": is_bool,
    },
    "fal-ai/reve/text-to-image": {**_REVE, "aspect_ratio": _REVE_RATIO},
    "fal-ai/reve/edit": {**_REVE, _REFERENCE: is_link},
    "fal-ai/reve/remix": {**_REVE, "aspect_ratio": _REVE_RATIO, _REFERENCES: links(6)},
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
ONE_IMAGE: Final = frozenset({"fal-ai/wan/v2.2-a14b/text-to-image"})
"""Whose result has one `image` instead of `images`."""
REPORTS_SEED: Final = frozenset(
    {
        "fal-ai/bytedance/seedream/v4/text-to-image",
        "fal-ai/bytedance/seedream/v4/edit",
        "fal-ai/flux-pro/kontext",
        "fal-ai/hunyuan-image/v2.1/text-to-image",
        "fal-ai/hunyuan-image/v3/text-to-image",
        "fal-ai/wan/v2.2-a14b/text-to-image",
        "fal-ai/bytedance/seedream/v4.5/text-to-image",
        "fal-ai/flux-2-max",
        "fal-ai/flux-2-max/edit",
    }
)
"""Whose result has the seed that was used."""
REPORTS_TEXT: Final = frozenset(
    {
        "fal-ai/gemini-25-flash-image",
        "fal-ai/gemini-25-flash-image/edit",
        "fal-ai/nano-banana-pro",
        "fal-ai/nano-banana-pro/edit",
        "fal-ai/imagen4/preview",
    }
)
"""Whose result has a text."""


def faults_of(endpoint: str, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`detail` of the 422 that a payload is answered with; empty where it is right."""
    checks = MODELS[endpoint]
    faults = []
    needed = [name for name in (_REFERENCES, _REFERENCE) if name in checks]
    for name in ("prompt", *needed):
        if name not in payload:
            faults.append(_fault(name, "missing", "Field required"))
    for name, value in payload.items():
        if name not in checks:
            faults.append(_fault(name, "extra_forbidden", "Extra inputs are not permitted"))
        elif not checks[name](value):
            faults.append(_fault(name, "value_error", "Value not permitted"))
    return faults


def ratio_of(payload: Mapping[str, Any]) -> float:
    """The requested ratio of width to height."""
    size = payload.get("image_size")
    if isinstance(size, str) and size in PRESETS:
        width, height = PRESETS[size]
    elif isinstance(size, dict):
        width, height = size["width"], size["height"]
    else:
        shape = size if isinstance(size, str) else payload.get("aspect_ratio", "1:1")
        words = str(shape).replace("x", ":").split(":")
        width, height = map(int, words if len(words) == 2 else ("1", "1"))
    return float(width / height)


def _fault(field: str, kind: str, words: str) -> dict[str, Any]:
    return {"loc": ["body", field], "msg": words, "type": kind}
