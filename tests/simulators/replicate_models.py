"""What Replicate's models accept, transcribed from their pages and not from our own code.

Fields that a model does not know are refused here, so that a mistyped one is found out.
"""

from collections.abc import Mapping
from typing import Any, Final

from tests.simulators.checks import Check, is_bool, is_words, links, one_of, whole

_TEN: Final = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")
_EIGHT: Final = ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3", "21:9")

MODELS: Final[Mapping[str, Mapping[str, Check]]] = {
    "black-forest-labs/flux-schnell": {
        "prompt": is_words,
        "aspect_ratio": one_of("9:21", *_TEN),
        "num_outputs": whole(1, 4),
        "num_inference_steps": whole(1, 4),
        "seed": whole(0, 2**31 - 1),
        "output_format": one_of("webp", "jpg", "png"),
        "output_quality": whole(0, 100),
        "disable_safety_checker": is_bool,
        "go_fast": is_bool,
        "megapixels": one_of("1", "0.25"),
    },
    "google/nano-banana": {
        "prompt": is_words,
        "image_input": links(100),
        "aspect_ratio": one_of("match_input_image", *_TEN),
        "output_format": one_of("jpg", "png"),
    },
    "bytedance/seedream-4": {
        "prompt": is_words,
        "image_input": links(10),
        "size": one_of("1K", "2K", "4K", "custom"),
        "aspect_ratio": one_of("match_input_image", *_EIGHT),
        "width": whole(1024, 4096),
        "height": whole(1024, 4096),
        "sequential_image_generation": one_of("disabled", "auto"),
        "max_images": whole(1, 15),
        "enhance_prompt": is_bool,
    },
}
VERSIONS: Final[Mapping[str, str]] = {name: f"{n}" * 64 for n, name in enumerate(MODELS)}
"""The version that each model has had."""
_FORMATS: Final = {"black-forest-labs/flux-schnell": "webp"}
_ONE_LINK: Final = "google/nano-banana"


def faults_of(model: str, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with an input; empty where it is right."""
    checks = MODELS[model]
    faults = [] if "prompt" in given else ["prompt is required"]
    for name, value in given.items():
        if name not in checks:
            faults.append(f"Additional property {name} is not allowed")
        elif not checks[name](value):
            faults.append(f"{name} is not permitted")
    return faults


def format_of(model: str, given: Mapping[str, Any]) -> str:
    default = _FORMATS.get(model, "jpg")
    return {"jpg": "jpeg"}.get(kind := str(given.get("output_format", default)), kind)


def ratio_of(given: Mapping[str, Any]) -> float:
    words = str(given.get("aspect_ratio", "1:1")).split(":")
    width, height = map(int, words if len(words) == 2 else ("1", "1"))
    return width / height


def gives_one_link(model: str) -> bool:
    """Whether its output is a link, and not a list of them."""
    return model == _ONE_LINK
