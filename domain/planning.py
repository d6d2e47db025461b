"""Plans a turn: what each model is given, what it costs, and everything that is wrong with it.

Only values from the input are refused. Inherited values are fitted to each model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from domain.conversations import is_blank
from domain.credits import Account
from domain.errors import Refused, UserError, UserErrorCode
from domain.ids import ModelId
from domain.mentions import mentioned_in
from domain.models import AspectRatio, ImageModel, ModelRegistry, Resolution, Scene
from domain.outputs import Output
from domain.plurals import count
from domain.references import Reference, choose_references
from domain.turns import PlannedOutput, Turn, TurnOptions, TurnPlan, TurnRequest

MAX_PROMPT_LENGTH: Final = 2_000
MAX_MODELS: Final = 8
MAX_MANUAL_REFERENCES: Final = 10
MAX_IMAGES_PER_MODEL: Final = 4
_MAX_NAMED: Final = 5
_IMAGES_PATH: Final = ("options", "imagesPerModel")


class Refusals:
    """Collects the user errors of one command."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    def add(self, code: UserErrorCode, message: str, *path: str) -> None:
        self.found.append(UserError(code, message, ("input", *path)))

    def raise_if_any(self) -> None:
        if self.found:
            raise Refused(self.found)


def refuse(code: UserErrorCode, message: str, *path: str) -> NoReturn:
    """Refuse a command for one reason that makes all further checks pointless."""
    refusals = Refusals()
    refusals.add(code, message, *path)
    raise Refused(refusals.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """The defaults of a turn for what the request leaves out."""

    model_ids: tuple[str, ...] = ()
    aspect_ratio: AspectRatio
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class _Choice:
    """The model that would run, and the one that was requested."""

    model: ImageModel
    requested: ImageModel


def plan_turn(
    request: TurnRequest,
    *,
    registry: ModelRegistry,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    previous_were_named: bool,
    refusals: Refusals,
) -> TurnPlan:
    """Plan a turn as far as possible, and add its user errors to `refusals`.

    `references` are in the turn's numbering. None means that they could not be determined: checks
    that depend on them are skipped.
    """
    _check_message(request.user_message, refusals)
    _check_options(request, refusals)
    choices = _choose_models(
        request, registry, inherited=inherited, references=references, refusals=refusals
    )
    mentioned = mentioned_in(request.user_message)
    if references is not None:
        _check_mentions(
            mentioned,
            choices,
            reference_count=len(references),
            refusals=refusals,
            path=("userMessage",),
        )
    for choice in choices:
        _check_abilities(choice.model, request, refusals)
    outputs = tuple(
        _plan_output(
            choice,
            references or (),
            mentioned=mentioned,
            previous_were_named=previous_were_named,
            options=request.options,
        )
        for choice in choices
    )
    return TurnPlan(
        user_message=request.user_message.strip(),
        references=tuple(references or ()),
        previous_were_named=previous_were_named,
        aspect_ratio=request.aspect_ratio or inherited.aspect_ratio,
        resolution=request.resolution or inherited.resolution,
        options=request.options,
        outputs=outputs,
    )


def plan_retry(
    turn: Turn, output: Output, name: str | None, *, registry: ModelRegistry, refusals: Refusals
) -> PlannedOutput | None:
    """Plan a retry of an output, by the named model or its own; None if none can run."""
    path = ("modelId",) if name is not None else ("outputId",)
    choice = _choose_model(
        name or output.requested_model_id,
        registry,
        references=turn.references,
        refusals=refusals,
        path=path,
    )
    if choice is not None:
        siblings = {other.model_id for other in turn.outputs if other.slot != output.slot}
        if choice.model.id in siblings:
            message = f"{choice.model.label} is already in this turn."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
        unsupported = Refusals()
        again = TurnRequest(user_message=turn.user_message, options=turn.options)
        _check_abilities(choice.model, again, unsupported)
        for error in unsupported.found:
            refusals.add(error.code, error.message, *path)
    if choice is None:
        return None
    mentioned = mentioned_in(turn.user_message)
    _check_mentions(
        mentioned, [choice], reference_count=len(turn.references), refusals=refusals, path=path
    )
    return _plan_output(
        choice,
        turn.references,
        mentioned=mentioned,
        previous_were_named=turn.previous_were_named,
        options=turn.options,
    )


def check_spending(
    outputs: Sequence[PlannedOutput],
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
    choice: _Choice,
    references: Sequence[Reference],
    *,
    mentioned: Sequence[int],
    previous_were_named: bool,
    options: TurnOptions,
) -> PlannedOutput:
    given = choose_references(
        references,
        limit=choice.model.max_references,
        model_id=choice.model.id,
        previous_were_named=previous_were_named,
        mentioned=mentioned,
    )
    scene = Scene.IMAGE_TO_IMAGE if given else Scene.TEXT_TO_IMAGE
    return PlannedOutput(
        choice.model,
        choice.requested.id,
        given,
        tuple(reference for reference in references if reference not in given),
        choice.model.credits_per_image(scene) * options.images_per_model,
    )


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


def _check_mentions(
    mentioned: Sequence[int],
    choices: Sequence[_Choice],
    *,
    reference_count: int,
    refusals: Refusals,
    path: tuple[str, ...],
) -> None:
    """Check that every mentioned reference exists, and that each model accepts all of them."""
    unknown = [number for number in mentioned if not 1 <= number <= reference_count]
    if unknown:
        names = ", ".join(f"@Image{number}" for number in unknown[:_MAX_NAMED])
        message = f"There is no {names}: this turn has {count(reference_count, 'reference')}."
        refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)
        return
    for choice in choices:
        if len(mentioned) > choice.model.max_references:
            message = (
                f"The message mentions {count(len(mentioned), 'image')}; "
                f"{choice.model.label} accepts at most {choice.model.max_references}."
            )
            refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)


def _choose_models(
    request: TurnRequest,
    registry: ModelRegistry,
    *,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[_Choice]:
    names = request.selected_models
    if names is None:
        return _inherit_models(registry, inherited, references=references, refusals=refusals)
    if not names:
        refusals.add(UserErrorCode.NO_MODELS, "Select at least one model.", "selectedModels")
    if len(names) > MAX_MODELS:
        refusals.add(
            UserErrorCode.TOO_MANY_MODELS, f"Select at most {MAX_MODELS} models.", "selectedModels"
        )
        return []

    choices: list[_Choice] = []
    for index, name in enumerate(names):
        path = ("selectedModels", str(index))
        choice = _choose_model(name, registry, references=references, refusals=refusals, path=path)
        if choice is None:
            continue
        if any(choice.model.id == other.model.id for other in choices):
            message = f"{choice.model.label} is selected more than once."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
            continue
        choices.append(choice)
    return choices


def _choose_model(
    name: str,
    registry: ModelRegistry,
    *,
    references: Sequence[Reference] | None,
    refusals: Refusals,
    path: tuple[str, ...],
) -> _Choice | None:
    requested = registry.get(name)
    if requested is None:
        refusals.add(UserErrorCode.UNKNOWN_MODEL, "There is no such model.", *path)
        return None
    if not requested.available:
        _refuse_unavailable(requested, registry, refusals=refusals, path=path)
        return None
    if references is None:
        return _Choice(requested, requested)

    model = registry.for_references(requested) if references else requested
    if model is None or (references and Scene.IMAGE_TO_IMAGE not in model.scenes):
        refusals.add(
            UserErrorCode.MODEL_CANNOT_EDIT,
            f"{requested.label} makes images from text only; it does not accept references.",
            *path,
        )
        return None
    if not model.available:
        _refuse_unavailable(model, registry, refusals=refusals, path=path)
        return None
    if len(references) < model.min_references or (
        not references and Scene.TEXT_TO_IMAGE not in model.scenes
    ):
        refusals.add(
            UserErrorCode.MODEL_NEEDS_REFERENCE,
            f"{model.label} needs at least {count(max(model.min_references, 1), 'reference')}.",
            *path,
        )
        return None
    return _Choice(model, requested)


def _refuse_unavailable(
    model: ImageModel, registry: ModelRegistry, *, refusals: Refusals, path: tuple[str, ...]
) -> None:
    successor = registry.successor(model.id)
    hint = f" Use {successor.label} ({successor.id}) instead." if successor else ""
    if model.retired:
        refusals.add(UserErrorCode.MODEL_RETIRED, f"{model.label} has been retired.{hint}", *path)
    else:
        message = f"{model.label} is not available.{hint}"
        refusals.add(UserErrorCode.MODEL_UNAVAILABLE, message, *path)


def _inherit_models(
    registry: ModelRegistry,
    inherited: Inherited,
    *,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[_Choice]:
    """The inherited models, or their replacements, that can run this turn; else the default."""
    scene = Scene.IMAGE_TO_IMAGE if references else Scene.TEXT_TO_IMAGE
    successors = (registry.successor(name) for name in inherited.model_ids)
    given = len(references or ())
    choices = _able(
        (model for model in successors if model), registry, scene=scene, reference_count=given
    )
    if not choices:
        default = registry.default(scene)
        choices = _able([default] if default else [], registry, scene=scene, reference_count=given)
    if not choices:
        refusals.add(
            UserErrorCode.NO_MODELS, "No model is available for this turn.", "selectedModels"
        )
    return choices


def _able(
    models: Iterable[ImageModel], registry: ModelRegistry, *, scene: Scene, reference_count: int
) -> list[_Choice]:
    able: dict[ModelId, _Choice] = {}
    for requested in models:
        model = registry.for_references(requested) if scene is Scene.IMAGE_TO_IMAGE else requested
        enough = model is not None and reference_count >= model.min_references
        if model is not None and enough and model.available and scene in model.scenes:
            able.setdefault(model.id, _Choice(model, requested))
    return list(able.values())


def _check_options(request: TurnRequest, refusals: Refusals) -> None:
    """Check what does not depend on a model."""
    options = request.options
    if options.images_per_model > MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"Request at most {MAX_IMAGES_PER_MODEL} images per model.",
            *_IMAGES_PATH,
        )
    if options.width is None and options.height is None:
        return
    if options.width is None or options.height is None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE,
            "Give both width and height, or neither.",
            *_size_path(options),
        )
    elif request.aspect_ratio is not None or request.resolution is not None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE,
            "Give either a width and height, or an aspect ratio and resolution.",
            *_size_path(options),
        )


def _check_abilities(model: ImageModel, request: TurnRequest, refusals: Refusals) -> None:
    """Check what this model supports."""
    options = request.options

    if request.aspect_ratio is not None and request.aspect_ratio not in model.aspect_ratios:
        offered = ", ".join(map(str, model.aspect_ratios))
        refusals.add(
            UserErrorCode.UNSUPPORTED_ASPECT_RATIO,
            f"{model.label} does not support {request.aspect_ratio}. It supports {offered}.",
            "aspectRatio",
        )
    if request.resolution is not None and request.resolution not in model.resolutions:
        refusals.add(
            UserErrorCode.UNSUPPORTED_RESOLUTION,
            f"{model.label} does not support this resolution.",
            "resolution",
        )
    if model.max_images < options.images_per_model <= MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"{model.label} makes at most {count(model.max_images, 'image')} per turn.",
            *_IMAGES_PATH,
        )
    if options.quality is not None and options.quality not in model.qualities:
        refusals.add(
            UserErrorCode.UNSUPPORTED_QUALITY,
            f"{model.label} does not support this quality.",
            "options",
            "quality",
        )
    if options.format is not None and options.format not in model.formats:
        refusals.add(
            UserErrorCode.UNSUPPORTED_FORMAT,
            f"{model.label} does not support this format.",
            "options",
            "format",
        )
    if options.seed is not None and not model.supports_seed:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SEED,
            f"{model.label} does not support a seed.",
            "options",
            "seed",
        )
    if options.negative_prompt is not None and not model.supports_negative_prompt:
        refusals.add(
            UserErrorCode.UNSUPPORTED_NEGATIVE_PROMPT,
            f"{model.label} does not support a negative prompt.",
            "options",
            "negativePrompt",
        )
    _check_size(model, options, refusals)


def _check_size(model: ImageModel, options: TurnOptions, refusals: Refusals) -> None:
    bounds = model.custom_size
    if options.width is None or options.height is None:
        return
    if bounds is None:
        reason = f"{model.label} does not support a width and height."
    elif not (bounds.allows(options.width) and bounds.allows(options.height)):
        reason = (
            f"{model.label} supports a width and height of {bounds.minimum} to {bounds.maximum} "
            f"pixels in steps of {bounds.step}."
        )
    else:
        return
    refusals.add(UserErrorCode.UNSUPPORTED_SIZE, reason, *_size_path(options))


def _size_path(options: TurnOptions) -> tuple[str, str]:
    return "options", "width" if options.width is not None else "height"
