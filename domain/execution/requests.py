"""The request to a provider for one run of an output."""

from typing import Final

from domain.claims import Claim
from domain.generation import GenerationRequest, Mask
from domain.mentions import IN_WORDS, spell_mentions
from domain.models import ImageModel
from domain.outputs import Run
from domain.references import positions_of

_LANDING_SECONDS: Final = 2.0
_MAX_SEED_DIGITS: Final = 10


def image_count_of(claim: Claim, *, index: int, run_count: int) -> int:
    """How many images one of several runs makes."""
    count, more = divmod(claim.parent.options.images_per_model, run_count)
    return max(1, count + (index < more))


def request_of(
    claim: Claim,
    model: ImageModel,
    *,
    index: int,
    run: Run,
    run_count: int,
    seconds_left: float,
    earlier_messages: tuple[str, ...],
) -> GenerationRequest:
    parent, output, options = claim.parent, claim.output, claim.parent.options
    size = None
    if options.width is not None and options.height is not None:
        size = options.width, options.height
    # If one of several runs is late, time must be left to land what the others have delivered.
    spare = _LANDING_SECONDS if run_count > 1 else 0.0
    return GenerationRequest(
        attempt=output.attempt,
        model=model,
        prompt=spell_mentions(
            parent.prompt,
            positions_of(output.references, parent.references),
            model.mention_spelling or IN_WORDS,
        ),
        earlier_messages=earlier_messages,
        references=tuple(reference.image for reference in output.references),
        mask=Mask(options.mask, options.feather or 0)
        if options.mask is not None and model.supports_masks
        else None,
        aspect_ratio=model.fit_aspect_ratio(parent.aspect_ratio),
        resolution=model.fit_resolution(parent.resolution),
        size=size,
        image_count=image_count_of(claim, index=index, run_count=run_count),
        preview_count=options.previews if model.supports_previews else 0,
        quality=options.quality,
        format=options.format,
        seed=_seed_of_run(options.seed, index),
        negative_prompt=options.negative_prompt,
        seconds_left=max(0.0, seconds_left - spare),
        run=index,
        job=None if run.rejected else run.job,
    )


def _seed_of_run(seed: str | None, index: int) -> str | None:
    """The seed of one run: the same seed in all runs would make the same image."""
    if seed is None or index == 0:
        return seed
    is_number = seed.isascii() and seed.isdecimal() and len(seed) < _MAX_SEED_DIGITS
    return str(int(seed) + index) if is_number else f"{seed} {index + 1}"
