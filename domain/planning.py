"""Plans a turn: what each model receives, what it costs, and everything that is wrong with it.

Only values from the input are refused. Inherited values are fitted to each model.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from domain.abilities import MAX_IMAGES_PER_MODEL, check_abilities, check_options
from domain.captions import (
    CaptionModelRegistry,
    CaptionOptions,
    PlannedCaption,
    check_caption_options,
    tidy_options,
)
from domain.credits import Account, Priced
from domain.errors import UserErrorCode
from domain.ids import ModelId
from domain.images import Image
from domain.mentions import mentioned_in
from domain.model_choice import (
    Inherited,
    ModelChoice,
    choose_model,
    choose_models,
    refuse_unavailable,
)
from domain.models import ASPECT_RATIOS, AspectRatio, ModelRegistry, Resolution, Scene
from domain.outputs import Output
from domain.parents import MAX_PROMPT_LENGTH, Parent, TurnOptions
from domain.plurals import count
from domain.prices import price_of_image
from domain.references import Reference, choose_references
from domain.refusals import Refusals
from domain.text import is_blank
from domain.turns import PlannedOutput, TurnPlan, TurnRequest

MAX_FEATHER: Final = 500
"""The largest feather, in pixels of the base."""
_MAX_MENTIONS_NAMED: Final = 5
_MAX_ROUNDING_DIFFERENCE: Final = 0.03
"""How far ratios may differ by rounding, however small an image is."""


def plan_turn(
    request: TurnRequest,
    *,
    registry: ModelRegistry,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    previous_were_named: bool,
    mask: Image | None = None,
    refusals: Refusals,
) -> TurnPlan:
    """Plan a turn as far as possible, and add its user errors to `refusals`.

    `references` are in the turn's numbering. None means that they could not be determined: checks
    that depend on them are skipped. So are the checks of the mask where that is None.
    """
    _check_message(request.user_message, refusals)
    check_options(request, refusals)
    choices = choose_models(
        request, registry, inherited=inherited, references=references, refusals=refusals
    )
    mentioned = mentioned_in(request.user_message)
    _check_choices(request, choices, mentioned, references=references, refusals=refusals)
    resolution = request.resolution or inherited.resolution
    outputs = tuple(
        _plan_output(
            choice,
            references or (),
            registry=registry,
            mentioned=mentioned,
            previous_were_named=previous_were_named,
            resolution=resolution,
            options=request.options,
        )
        for choice in choices
    )
    if request.mask is not None:
        _check_feather(request.mask.feather, refusals)
    if mask is not None and references is not None:
        _check_mask(mask, outputs, refusals, path=("mask", "imageId"))
    return TurnPlan(
        user_message=request.user_message.strip(),
        references=tuple(references or ()),
        previous_were_named=previous_were_named,
        aspect_ratio=request.aspect_ratio or _default_aspect_ratio(request, inherited, mask=mask),
        resolution=resolution,
        options=_options_with_mask(request, mask),
        outputs=outputs,
    )


def _check_choices(
    request: TurnRequest,
    choices: Sequence[ModelChoice],
    mentioned: Sequence[int],
    *,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> None:
    """Check what the chosen models have to support."""
    if references is not None:
        _check_mentions(
            mentioned,
            choices,
            reference_count=len(references),
            refusals=refusals,
            path=("userMessage",),
        )
    for choice in choices:
        check_abilities(choice.model, request, refusals)


def _default_aspect_ratio(
    request: TurnRequest, inherited: Inherited, *, mask: Image | None
) -> AspectRatio:
    # The model is asked for the aspect ratio of the image into which its result is put.
    if request.mask is not None and mask is not None:
        return _nearest_aspect_ratio(mask)
    return inherited.aspect_ratio


def _options_with_mask(request: TurnRequest, mask: Image | None) -> TurnOptions:
    if request.mask is None:
        return request.options
    return replace(
        request.options,
        mask=mask,
        feather=request.mask.feather,
        keep_outside=request.mask.keep_outside,
    )


def plan_caption(
    name: str | None,
    options: CaptionOptions,
    *,
    registry: CaptionModelRegistry,
    reference_prompts: Sequence[str] = (),
    refusals: Refusals,
) -> PlannedCaption | None:
    """Plan a caption by the named model or the default, and add its user errors to `refusals`; None
    if no model can write it.
    """
    model = registry.default() if name is None else registry.get(name)
    if model is None and name is None:
        message = "No model that writes captions is available."
        refusals.add(UserErrorCode.NO_MODELS, message, "captionModel")
    elif model is None:
        refusals.add(UserErrorCode.UNKNOWN_MODEL, "There is no such model.", "captionModel")
    elif not model.available:
        refuse_unavailable(model, registry, refusals=refusals, path=("captionModel",))
    check_caption_options(options, model, refusals)
    if model is None:
        return None
    return PlannedCaption(
        model=model, options=tidy_options(options), reference_prompts=tuple(reference_prompts)
    )


def plan_retry(
    parent: Parent, output: Output, name: str | None, *, registry: ModelRegistry, refusals: Refusals
) -> PlannedOutput | None:
    """Plan a retry of an output, by the named model or its own; None if none can run."""
    path = ("modelId",) if name is not None else ("outputId",)
    choice = choose_model(
        name or output.requested_model_id,
        registry,
        references=parent.references,
        refusals=refusals,
        path=path,
    )
    if choice is not None:
        siblings = {other.model_id for other in parent.outputs if other.slot != output.slot}
        if choice.model.id in siblings:
            message = f"{choice.model.label} is already selected."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
        unsupported = Refusals()
        request = TurnRequest(user_message=parent.user_message, options=parent.options)
        check_abilities(choice.model, request, unsupported)
        for error in unsupported.found:
            refusals.add(error.code, error.message, *path)
    if choice is None:
        return None
    mentioned = mentioned_in(parent.user_message)
    _check_mentions(
        mentioned, [choice], reference_count=len(parent.references), refusals=refusals, path=path
    )
    planned = _plan_output(
        choice,
        parent.references,
        registry=registry,
        mentioned=mentioned,
        previous_were_named=parent.previous_were_named,
        resolution=parent.resolution,
        options=parent.options,
    )
    if parent.options.mask is not None:
        _check_mask(parent.options.mask, [planned], refusals, path=path)
    return planned


def check_spending(
    outputs: Sequence[Priced],
    *,
    account: Account,
    max_active_outputs: int,
    max_credits: int | None,
    refusals: Refusals,
) -> None:
    """Add to `refusals` why the account cannot run these outputs."""
    price = sum(planned.credits for planned in outputs)
    if price > account.available:
        refusals.add(
            UserErrorCode.INSUFFICIENT_CREDITS,
            f"This costs {count(price, 'credit')}; available: {account.available:,}.",
        )
    if account.left_today is not None and price > account.left_today:
        refusals.add(
            UserErrorCode.DAILY_LIMIT_REACHED,
            f"This costs {count(price, 'credit')}; left for today: {account.left_today:,} of "
            f"{account.daily_limit:,}. The day ends at 00:00 UTC.",
        )
    if max_credits is not None and price > max_credits:
        refusals.add(
            UserErrorCode.MAX_CREDITS_EXCEEDED,
            f"This costs {count(price, 'credit')}; `maxCredits` is {max_credits}.",
            "maxCredits",
        )
    if account.active_outputs + len(outputs) > max_active_outputs:
        refusals.add(
            UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS,
            f"{count(account.active_outputs, 'output')} queued or running; "
            f"at most {max_active_outputs} at the same time.",
        )


def _plan_output(
    choice: ModelChoice,
    references: Sequence[Reference],
    *,
    registry: ModelRegistry,
    mentioned: Sequence[int],
    previous_were_named: bool,
    resolution: Resolution,
    options: TurnOptions,
) -> PlannedOutput:
    chosen = choose_references(
        references,
        limit=choice.model.max_references,
        own_model_ids=_own_model_ids(choice, references, registry),
        previous_were_named=previous_were_named,
        mentioned=mentioned,
    )
    scene = Scene.IMAGE_TO_IMAGE if chosen else Scene.TEXT_TO_IMAGE
    price = price_of_image(choice.model, scene, resolution=resolution, options=options)
    return PlannedOutput(
        choice.model,
        choice.requested.id,
        chosen,
        tuple(reference for reference in references if reference not in chosen),
        # More are refused, but a plan shows the price: it must be a number that GraphQL can show.
        price * min(options.images_per_model, MAX_IMAGES_PER_MODEL),
    )


def _own_model_ids(
    choice: ModelChoice, references: Sequence[Reference], registry: ModelRegistry
) -> list[ModelId]:
    """The ids under which this model may have made references: its own, the one that was selected,
    and those of models that it replaces or edits for.
    """
    made_by = dict.fromkeys(
        reference.image.model_id for reference in references if reference.image.model_id
    )
    predecessors = (
        name
        for name in made_by
        if (editor := registry.editor(name)) and editor.id == choice.model.id
    )
    return [choice.model.id, choice.requested.id, *predecessors]


def _check_message(message: str, refusals: Refusals) -> None:
    if is_blank(message):
        refusals.add(
            UserErrorCode.PROMPT_EMPTY,
            "Enter a message that says what you would like to see.",
            "userMessage",
        )
    elif len(message) > MAX_PROMPT_LENGTH:
        refusals.add(
            UserErrorCode.PROMPT_TOO_LONG,
            f"A message can have at most {MAX_PROMPT_LENGTH:,} characters; "
            f"this one has {len(message):,}.",
            "userMessage",
        )


def _check_feather(feather: int, refusals: Refusals) -> None:
    if not 0 <= feather <= MAX_FEATHER:
        message = f"`feather` takes 0 to {MAX_FEATHER} pixels."
        refusals.add(UserErrorCode.MASK_INVALID, message, "mask", "feather")


def _check_mask(
    mask: Image, outputs: Sequence[PlannedOutput], refusals: Refusals, *, path: tuple[str, ...]
) -> None:
    """Check that the mask has the shape of each image that is edited."""
    for planned in outputs:
        if not planned.references:
            message = "A mask needs an image to edit, and there is none."
            refusals.add(UserErrorCode.UNSUPPORTED_MASK, message, *path)
            return
        base = planned.references[0].image
        if not _has_aspect_ratio_of(mask, base):
            message = (
                f"The mask has {mask.width} × {mask.height} pixels, and the image that "
                f"{planned.model.label} edits has {base.width} × {base.height}: they need the same "
                "aspect ratio."
            )
            refusals.add(UserErrorCode.MASK_INVALID, message, *path)
            return


def _has_aspect_ratio_of(mask: Image, base: Image) -> bool:
    """Whether the aspect ratios differ by no more than the rounding of a scaled image."""
    ratio = (mask.width * base.height) / (mask.height * base.width)
    smallest = min(mask.width, mask.height, base.width, base.height)
    return abs(ratio - 1) <= min(1 / smallest, _MAX_ROUNDING_DIFFERENCE)


def _nearest_aspect_ratio(image: Image) -> AspectRatio:
    return AspectRatio(image.width, image.height).nearest(ASPECT_RATIOS)


def _check_mentions(
    mentioned: Sequence[int],
    choices: Sequence[ModelChoice],
    *,
    reference_count: int,
    refusals: Refusals,
    path: tuple[str, ...],
) -> None:
    """Check that every mentioned reference exists, and that each model accepts all of them."""
    unknown = [number for number in mentioned if not 1 <= number <= reference_count]
    if unknown:
        names = ", ".join(f"@Image{number}" for number in unknown[:_MAX_MENTIONS_NAMED])
        message = f"There is no {names}: the message has {count(reference_count, 'reference')}."
        refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)
        return
    for choice in choices:
        if len(mentioned) > choice.model.max_references:
            message = (
                f"The message mentions {count(len(mentioned), 'image')}; "
                f"{choice.model.label} accepts at most {choice.model.max_references}."
            )
            refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)
