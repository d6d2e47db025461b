"""What viewers request, what it costs, and how each request may end."""

import random
from collections.abc import Mapping
from typing import Final

from tests.clients import Data
from tests.simulators.script import in_prompt

CAPTION = 1
"""Credits for a caption."""
FROM_WORDS, WITH_REFERENCES = 2, 4
"""Credits for an image, by every model that is used here."""
SCRIPTS: Final[Mapping[str, frozenset[str | None]]] = {
    "": frozenset({None}),
    "delay=0.7": frozenset({None}),
    "delay=1.5 seconds=1": frozenset({None}),
    "delay=0.3 seconds=3": frozenset({None}),
    "queue=1 position=3 seconds=2": frozenset({None}),
    "seconds=8": frozenset({None}),
    "stumble": frozenset({None}),
    # A vendor that is killed forgets that it has said no already.
    "limit": frozenset({None, "PROVIDER_RATE_LIMITED"}),
    "status=502x2,dropx1 result=503x1": frozenset({None}),
    "file=dropx1": frozenset({None}),
    "lose-answer": frozenset({"OUTCOME_UNKNOWN"}),
    "cut=40": frozenset({"OUTCOME_UNKNOWN"}),
    "submit=drop": frozenset({"OUTCOME_UNKNOWN"}),
    "refuse": frozenset({"CONTENT_REFUSED"}),
}
"""Words for the simulated vendor, in the prompt, and the errors that they lead to; None is none.

`lose-answer` takes the job and drops the line before its answer, `cut=40` in the midst of it,
`submit=drop` takes no job: the three are indistinguishable, so each has an unknown outcome.
"""
LOSING: Final = frozenset({"lose-answer", "cut=40", "submit=drop"})
_OFTEN: Final = ("", "", "delay=0.7", "delay=1.5 seconds=1", "delay=0.3 seconds=3", "seconds=8")
_RARE: Final = tuple(script for script in SCRIPTS if script)
FAL_FROM_WORDS: Final = ("img-nano-banana", "img-flux-2-max", "img-nano-banana-pro")
_LOCAL: Final = (
    ("local-silver",),
    ("local-ink",),
    ("local-silver", "local-ink"),
    ("local-silver", "rehearsal-lands-last"),
    ("local-ink", "rehearsal-fails"),
    ("rehearsal-lands-last", "rehearsal-fails-once", "local-ink"),
    ("local-silver", "rehearsal-slow"),
)
_ENDS: Final[Mapping[str, frozenset[str | None]]] = {
    "rehearsal-fails": frozenset({"PROVIDER_UNAVAILABLE", "TIMED_OUT"}),
}
CAPTION_MODELS: Final = (
    *("local-writer", "local-writer", "rehearsal-caption-slow", "rehearsal-caption-fails-once"),
)
_DELIVERS: Final = frozenset({None, "TIMED_OUT"})
_WORDS: Final = ("A red boat at sea", "Make it sepia", "More contrast", "A lighthouse at night")


def an_order(choice: random.Random, number: int, *, fal: bool) -> Data:
    """The input of a turn. No two have the same message."""
    words = f"{choice.choice(_WORDS)}, number {number}"
    if fal and choice.random() < 0.65:
        script = choice.choice(_RARE if choice.random() < 0.3 else _OFTEN)
        models = choice.sample(FAL_FROM_WORDS, choice.choice((1, 1, 2)))
        several = "img-flux-2-max" not in models and choice.random() < 0.2
        return {
            "userMessage": f"{words} [fal {script}]" if script else words,
            "selectedModels": models,
            "options": {"previews": 0, "imagesPerModel": 2 if several else 1},
        }
    return {
        "userMessage": words,
        "selectedModels": list(choice.choice(_LOCAL)),
        "options": {
            "width": 256,
            "height": 256,
            "previews": choice.choice((0, 1, 2)),
            "imagesPerModel": choice.choice((1, 1, 1, 2)),
        },
    }


def a_post_order(choice: random.Random, number: int, *, fal: bool) -> Data:
    """The input of a post. No two have the same message."""
    words = f"A post about {choice.choice(_WORDS)}, number {number}"
    caption_model = choice.choice(CAPTION_MODELS)
    if fal and choice.random() < 0.5:
        return {
            "userMessage": f"{words} [fal {choice.choice(_OFTEN)}]",
            "captionModel": caption_model,
            "selectedModels": choice.sample(FAL_FROM_WORDS, choice.choice((1, 2))),
            "options": {"previews": 0, "imagesPerModel": 1},
        }
    return {
        "userMessage": words,
        "captionModel": caption_model,
        "selectedModels": list(choice.choice(_LOCAL)),
        "options": {"width": 256, "height": 256, "previews": 1, "imagesPerModel": 1},
    }


def script_of(prompt: str) -> str:
    match = in_prompt("fal").search(prompt)
    return match[1] if match else ""


def is_sold(model: str) -> bool:
    """Whether a vendor charges for what this model does."""
    return model.startswith("img-")


def may_end_with(model: str, prompt: str, attempt: int) -> frozenset[str | None]:
    """The errors that an attempt may end with if nothing fails; None if it may deliver."""
    if is_sold(model):
        # Whether an unknown outcome has a reason, and whether the vendor was there, others ask.
        return SCRIPTS.get(script_of(prompt), _DELIVERS) | {
            "OUTCOME_UNKNOWN",
            "PROVIDER_UNAVAILABLE",
            "TIMED_OUT",
        }
    if model in ("rehearsal-fails-once", "rehearsal-caption-fails-once") and attempt == 1:
        return _ENDS["rehearsal-fails"]
    return _ENDS.get(model, _DELIVERS)


def price_of(*, images: int, with_references: bool) -> int:
    return images * (WITH_REFERENCES if with_references else FROM_WORDS)
