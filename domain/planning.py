"""From what a viewer asks for to what every model is given and costs, with all that is wrong.

Only what stands in the input is ever refused. What is inherited is fitted to each model.
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
from domain.references import Reference, choose_references
from domain.turns import PlannedOutput, Turn, TurnOptions, TurnPlan, TurnRequest

MAX_PROMPT_LENGTH: Final = 2_000
MAX_MODELS: Final = 8
MAX_MANUAL_REFERENCES: Final = 10
MAX_IMAGES_PER_MODEL: Final = 4
_MAX_NAMED: Final = 5
_IMAGES_PATH: Final = ("options", "imagesPerModel")


class Refusals:
    """Collects what is wrong with one command."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    def add(self, code: UserErrorCode, message: str, *path: str) -> None:
        self.found.append(UserError(code, message, ("input", *path)))

    def raise_if_any(self) -> None:
        if self.found:
            raise Refused(self.found)


def refuse(code: UserErrorCode, message: str, *path: str) -> NoReturn:
    """Refuse a command for one reason that leaves nothing else to look at."""
    refusals = Refusals()
    refusals.add(code, message, *path)
    raise Refused(refusals.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a turn falls back on where the request leaves something out."""

    model_ids: tuple[str, ...] = ()
    aspect_ratio: AspectRatio
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class _Choice:
    """A model that would run, and what was asked for."""

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
    """Plan a turn as far as it can be planned, and add to `refusals` what is wrong with it.

    `references` are the turn's, in its numbering; None where they could not be made out, so that
    nothing is said about models that hangs on them.
    """
    _check_message(request.user_message, refusals)
    _check_options(request, refusals)
    choices = _choose_models(request, registry, inherited, references, refusals)
    mentioned = mentioned_in(request.user_message)
    if references is not None:
        _check_mentions(mentioned, len(references), choices, refusals, ("userMessage",))
    for choice in choices:
        _check_abilities(choice.model, request, refusals)
    outputs = tuple(
        _plan_output(choice, references or (), mentioned, previous_were_named, request.options)
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
    """Plan an output anew in its place, by the model named or its own; None if none can run."""
    path = ("modelId",) if name is not None else ("outputId",)
    choice = _choose_model(
        name or output.requested_model_id, registry, turn.references, refusals, path
    )
    if choice is not None:
        siblings = {other.model_id for other in turn.outputs if other.slot != output.slot}
        if choice.model.id in siblings:
            message = f"{choice.model.label} is at work in this turn already."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
        unsupported = Refusals()
        again = TurnRequest(user_message=turn.user_message, options=turn.options)
        _check_abilities(choice.model, again, unsupported)
        for error in unsupported.found:
            refusals.add(error.code, error.message, *path)
    if choice is None:
        return None
    mentioned = mentioned_in(turn.user_message)
    _check_mentions(mentioned, len(turn.references), [choice], refusals, path)
    return _plan_output(choice, turn.references, mentioned, turn.previous_were_named, turn.options)


def check_spending(
    outputs: Sequence[PlannedOutput],
    *,
    account: Account,
    max_active_outputs: int,
    max_credits: int | None,
    refusals: Refusals,
) -> None:
    """Add to `refusals` what speaks against running these outputs for this account."""
    price = sum(planned.credits for planned in outputs)
    if price > account.available:
        refusals.add(
            UserErrorCode.INSUFFICIENT_CREDITS,
            f"This costs {price} credits; {account.available} are available.",
        )
    if max_credits is not None and price > max_credits:
        refusals.add(
            UserErrorCode.MAX_CREDITS_EXCEEDED,
            f"This costs {price} credits, more than {max_credits}.",
            "maxCredits",
        )
    if account.active_outputs + len(outputs) > max_active_outputs:
        refusals.add(
            UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS,
            f"{account.active_outputs} outputs are at work already; "
            f"{max_active_outputs} may be at the same time.",
        )


def _plan_output(
    choice: _Choice,
    references: Sequence[Reference],
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
        refusals.add(UserErrorCode.PROMPT_EMPTY, "Say what you would like to see.", "userMessage")
    elif len(message) > MAX_PROMPT_LENGTH:
        refusals.add(
            UserErrorCode.PROMPT_TOO_LONG,
            f"A message may be {MAX_PROMPT_LENGTH} characters long; this one has {len(message)}.",
            "userMessage",
        )


def _check_mentions(
    mentioned: Sequence[int],
    reference_count: int,
    choices: Sequence[_Choice],
    refusals: Refusals,
    path: tuple[str, ...],
) -> None:
    """Whether there is what the message mentions, and each model can be given all of it."""
    unknown = [number for number in mentioned if not 1 <= number <= reference_count]
    if unknown:
        names = ", ".join(f"@Image{number}" for number in unknown[:_MAX_NAMED])
        message = f"There is no {names}: {reference_count} images go along with this turn."
        refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)
        return
    for choice in choices:
        if len(mentioned) > choice.model.max_references:
            message = (
                f"The message mentions {len(mentioned)} images; "
                f"{choice.model.label} takes at most {choice.model.max_references}."
            )
            refusals.add(UserErrorCode.UNKNOWN_MENTION, message, *path)


def _choose_models(
    request: TurnRequest,
    registry: ModelRegistry,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[_Choice]:
    names = request.selected_models
    if names is None:
        return _inherit_models(registry, inherited, references, refusals)
    if not names:
        refusals.add(UserErrorCode.NO_MODELS, "Choose at least one model.", "selectedModels")
    if len(names) > MAX_MODELS:
        refusals.add(
            UserErrorCode.TOO_MANY_MODELS, f"Choose at most {MAX_MODELS} models.", "selectedModels"
        )
        return []

    choices: list[_Choice] = []
    for index, name in enumerate(names):
        path = ("selectedModels", str(index))
        choice = _choose_model(name, registry, references, refusals, path)
        if choice is None:
            continue
        if any(choice.model.id == other.model.id for other in choices):
            message = f"{choice.model.label} is chosen twice."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
            continue
        choices.append(choice)
    return choices


def _choose_model(
    name: str,
    registry: ModelRegistry,
    references: Sequence[Reference] | None,
    refusals: Refusals,
    path: tuple[str, ...],
) -> _Choice | None:
    requested = registry.get(name)
    if requested is None:
        refusals.add(UserErrorCode.UNKNOWN_MODEL, "There is no such model.", *path)
        return None
    if not requested.available:
        _refuse_unavailable(requested, registry, refusals, path)
        return None
    if references is None:
        return _Choice(requested, requested)

    model = registry.for_references(requested) if references else requested
    if model is None or (references and Scene.IMAGE_TO_IMAGE not in model.scenes):
        refusals.add(
            UserErrorCode.MODEL_CANNOT_EDIT,
            f"{requested.label} makes images from words only; it cannot work with references.",
            *path,
        )
        return None
    if not model.available:
        _refuse_unavailable(model, registry, refusals, path)
        return None
    if len(references) < model.min_references or (
        not references and Scene.TEXT_TO_IMAGE not in model.scenes
    ):
        refusals.add(
            UserErrorCode.MODEL_NEEDS_REFERENCE,
            f"{model.label} needs an image to work with.",
            *path,
        )
        return None
    return _Choice(model, requested)


def _refuse_unavailable(
    model: ImageModel, registry: ModelRegistry, refusals: Refusals, path: tuple[str, ...]
) -> None:
    if not model.retired:
        refusals.add(
            UserErrorCode.MODEL_UNAVAILABLE, f"{model.label} is not available here.", *path
        )
        return
    successor = registry.successor(model.id)
    hint = f" {successor.label} ({successor.id}) takes its place." if successor else ""
    refusals.add(UserErrorCode.MODEL_RETIRED, f"{model.label} has been retired.{hint}", *path)


def _inherit_models(
    registry: ModelRegistry,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[_Choice]:
    """The inherited models that can do this turn, or the replacements of those that are gone;
    else the default.
    """
    scene = Scene.IMAGE_TO_IMAGE if references else Scene.TEXT_TO_IMAGE
    successors = (registry.successor(name) for name in inherited.model_ids)
    count = len(references or ())
    choices = _able(registry, scene, (model for model in successors if model), count)
    if not choices:
        default = registry.default(scene)
        choices = _able(registry, scene, [default] if default else [], count)
    if not choices:
        refusals.add(
            UserErrorCode.NO_MODELS, "No model is available here for this.", "selectedModels"
        )
    return choices


def _able(
    registry: ModelRegistry, scene: Scene, models: Iterable[ImageModel], reference_count: int
) -> list[_Choice]:
    able: dict[ModelId, _Choice] = {}
    for requested in models:
        model = registry.for_references(requested) if scene is Scene.IMAGE_TO_IMAGE else requested
        enough = model is not None and reference_count >= model.min_references
        if model is not None and enough and model.available and scene in model.scenes:
            able.setdefault(model.id, _Choice(model, requested))
    return list(able.values())


def _check_options(request: TurnRequest, refusals: Refusals) -> None:
    """What is wrong whichever models are chosen."""
    options = request.options
    if options.images_per_model > MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"Ask for at most {MAX_IMAGES_PER_MODEL} images of each model.",
            *_IMAGES_PATH,
        )
    if options.width is None and options.height is None:
        return
    if options.width is None or options.height is None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE, "Width and height go together.", *_size_path(options)
        )
    elif request.aspect_ratio is not None or request.resolution is not None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE,
            "Width and height stand instead of an aspect ratio and a resolution.",
            *_size_path(options),
        )


def _check_abilities(model: ImageModel, request: TurnRequest, refusals: Refusals) -> None:
    """What this model does not do."""
    options = request.options

    if request.aspect_ratio is not None and request.aspect_ratio not in model.aspect_ratios:
        offered = ", ".join(map(str, model.aspect_ratios))
        refusals.add(
            UserErrorCode.UNSUPPORTED_ASPECT_RATIO,
            f"{model.label} does not make {request.aspect_ratio} images; it offers {offered}.",
            "aspectRatio",
        )
    if request.resolution is not None and request.resolution not in model.resolutions:
        refusals.add(
            UserErrorCode.UNSUPPORTED_RESOLUTION,
            f"{model.label} does not offer this resolution.",
            "resolution",
        )
    if model.max_images < options.images_per_model <= MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"{model.label} makes at most {model.max_images} images at once.",
            *_IMAGES_PATH,
        )
    if options.quality is not None and options.quality not in model.qualities:
        refusals.add(
            UserErrorCode.UNSUPPORTED_QUALITY,
            f"{model.label} does not offer this quality.",
            "options",
            "quality",
        )
    if options.format is not None and options.format not in model.formats:
        refusals.add(
            UserErrorCode.UNSUPPORTED_FORMAT,
            f"{model.label} does not offer this format.",
            "options",
            "format",
        )
    if options.seed is not None and not model.supports_seed:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SEED, f"{model.label} takes no seed.", "options", "seed"
        )
    if options.negative_prompt is not None and not model.supports_negative_prompt:
        refusals.add(
            UserErrorCode.UNSUPPORTED_NEGATIVE_PROMPT,
            f"{model.label} takes no negative prompt.",
            "options",
            "negativePrompt",
        )
    _check_size(model, options, refusals)


def _check_size(model: ImageModel, options: TurnOptions, refusals: Refusals) -> None:
    bounds = model.custom_size
    if options.width is None or options.height is None:
        return
    if bounds is None:
        reason = f"{model.label} does not take a width and a height."
    elif not (bounds.allows(options.width) and bounds.allows(options.height)):
        reason = (
            f"{model.label} takes sides of {bounds.minimum} to {bounds.maximum} pixels "
            f"in steps of {bounds.step}."
        )
    else:
        return
    refusals.add(UserErrorCode.UNSUPPORTED_SIZE, reason, *_size_path(options))


def _size_path(options: TurnOptions) -> tuple[str, str]:
    return "options", "width" if options.width is not None else "height"
