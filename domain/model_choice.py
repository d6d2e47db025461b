"""Chooses the models of a turn: the selected ones, or those that it inherits.

A selected model that cannot run is refused. An inherited one is replaced by one that costs no more,
or omitted, or refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from domain.errors import UserErrorCode
from domain.ids import ModelId
from domain.models import AspectRatio, ImageModel, ModelRegistry, Resolution, Scene
from domain.plurals import count
from domain.prices import price_of_image
from domain.references import Reference
from domain.refusals import Refusals
from domain.registry import ModelT, Registry
from domain.turns import TurnRequest

MAX_MODELS: Final = 8
_SELECTED: Final = "selectedModels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """The defaults of a turn, for fields that the request leaves out."""

    model_ids: tuple[str, ...] = ()
    aspect_ratio: AspectRatio
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that would run, and the one that was requested."""

    model: ImageModel
    requested: ImageModel


def choose_models(
    request: TurnRequest,
    registry: ModelRegistry,
    *,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[ModelChoice]:
    """Choose the models that can run this turn, without duplicates, in the order of the request."""
    names = request.selected_models
    if names is None:
        return _inherit_models(
            request, registry, inherited=inherited, references=references, refusals=refusals
        )
    if not names:
        refusals.add(UserErrorCode.NO_MODELS, "Select at least one model.", "selectedModels")
    if len(names) > MAX_MODELS:
        refusals.add(
            UserErrorCode.TOO_MANY_MODELS, f"Select at most {MAX_MODELS} models.", "selectedModels"
        )
        return []

    choices: list[ModelChoice] = []
    for index, name in enumerate(names):
        path = ("selectedModels", str(index))
        choice = choose_model(name, registry, references=references, refusals=refusals, path=path)
        if choice is None:
            continue
        if any(choice.model.id == other.model.id for other in choices):
            message = f"{choice.model.label} is selected more than once."
            refusals.add(UserErrorCode.DUPLICATE_MODEL, message, *path)
            continue
        choices.append(choice)
    return choices


def choose_model(
    name: str,
    registry: ModelRegistry,
    *,
    references: Sequence[Reference] | None,
    refusals: Refusals,
    path: tuple[str, ...],
) -> ModelChoice | None:
    """Choose the model with this name, or the one that edits in its place; None if none can run."""
    requested = registry.get(name)
    if requested is None:
        refusals.add(UserErrorCode.UNKNOWN_MODEL, "There is no such model.", *path)
        return None
    if not requested.available:
        refuse_unavailable(requested, registry, refusals=refusals, path=path)
        return None
    if references is None:
        return ModelChoice(requested, requested)

    model = registry.for_references(requested) if references else requested
    if model is None or (references and Scene.IMAGE_TO_IMAGE not in model.scenes):
        refusals.add(
            UserErrorCode.MODEL_CANNOT_EDIT,
            f"{requested.label} makes images from text only; it does not accept references.",
            *path,
        )
        return None
    if not model.available:
        refuse_unavailable(model, registry, refusals=refusals, path=path)
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
    return ModelChoice(model, requested)


def refuse_unavailable(
    model: ModelT, registry: Registry[ModelT], *, refusals: Refusals, path: tuple[str, ...]
) -> None:
    """Say why a model cannot be used, and what to use instead."""
    successor = registry.successor(model.id)
    hint = f" Use {successor.label} ({successor.id}) instead." if successor else ""
    if model.retired:
        refusals.add(UserErrorCode.MODEL_RETIRED, f"{model.label} has been retired.{hint}", *path)
    else:
        message = f"{model.label} is not available.{hint}"
        refusals.add(UserErrorCode.MODEL_UNAVAILABLE, message, *path)


def _inherit_models(
    request: TurnRequest,
    registry: ModelRegistry,
    *,
    inherited: Inherited,
    references: Sequence[Reference] | None,
    refusals: Refusals,
) -> list[ModelChoice]:
    """The inherited models, or those that may run in their place; the default where none is
    inherited.

    A model that is gone is replaced, or refused where only a model that costs more could replace
    it. A model that cannot make this turn is left out, or replaced if no model can.
    """
    if references is None:
        successors = map(registry.successor, inherited.model_ids)
        return [ModelChoice(model, model) for model in successors if model is not None]
    scene = Scene.IMAGE_TO_IMAGE if references else Scene.TEXT_TO_IMAGE
    price_of = partial(
        price_of_image,
        scene=scene,
        resolution=request.resolution or inherited.resolution,
        options=request.options,
    )
    models = _InheritedModels(
        registry,
        scene=scene,
        reference_count=len(references),
        price_of=price_of,
        refusals=refusals,
    )
    for name in inherited.model_ids:
        models.add(name)
    return models.choose()


class _InheritedModels:
    """The model of a turn that selects none."""

    def __init__(
        self,
        registry: ModelRegistry,
        *,
        scene: Scene,
        reference_count: int,
        price_of: Callable[[ImageModel], int],
        refusals: Refusals,
    ) -> None:
        self._registry = registry
        self._scene = scene
        self._reference_count = reference_count
        self._price_of = price_of
        self._refusals = refusals
        self._default = self._find_choice(registry.default(self._scene))
        self._choices: dict[ModelId, ModelChoice] = {}
        self._unable: list[ImageModel] = []
        self._is_refused = False

    def add(self, name: str) -> None:
        """Add the model that runs for one inherited model."""
        model = self._registry.get(name)
        before = self._in_scene(model) or model
        if model is None or before is None or not (model.available and before.available):
            self._replace(name, before)
        elif choice := self._find_choice(model):
            self._choices.setdefault(choice.model.id, choice)
        else:
            self._unable.append(before)

    def choose(self) -> list[ModelChoice]:
        if self._choices or self._is_refused:
            return list(self._choices.values())
        if self._default is None:
            message = "No model is available for this message."
            self._refusals.add(UserErrorCode.NO_MODELS, message, _SELECTED)
        elif not self._unable or any(
            self._costs_no_more(self._default, model) for model in self._unable
        ):
            return [self._default]
        else:
            is_edit = self._scene is Scene.IMAGE_TO_IMAGE
            code = (
                UserErrorCode.MODEL_CANNOT_EDIT if is_edit else UserErrorCode.MODEL_NEEDS_REFERENCE
            )
            reason = f"{self._unable[0].label} cannot be used for this message."
            self._refuse(code, reason, self._default)
        return []

    def _replace(self, name: str, before: ImageModel | None) -> None:
        """Replace a model that is gone by one that costs no more."""
        replacement = self._find_choice(self._registry.successor(name))
        candidates = [choice for choice in (replacement, self._default) if choice is not None]
        for choice in candidates:
            if before is not None and self._costs_no_more(choice, before):
                self._choices.setdefault(choice.model.id, choice)
                return
        reason = f"{self._registry.remembered(name).label} is not available any more."
        alternative = candidates[0] if candidates else None
        self._refuse(UserErrorCode.MODEL_UNAVAILABLE, reason, alternative)

    def _refuse(self, code: UserErrorCode, reason: str, alternative: ModelChoice | None) -> None:
        self._is_refused = True
        hint = "Select another model."
        if alternative is not None:
            model = alternative.model
            price = count(self._price_of(model), "credit")
            hint = f"Select another model, such as {model.label} ({model.id}) for {price} an image."
        self._refusals.add(code, f"{reason} {hint}", _SELECTED)

    def _costs_no_more(self, choice: ModelChoice, before: ImageModel) -> bool:
        return self._price_of(choice.model) <= self._price_of(before)

    def _find_choice(self, requested: ImageModel | None) -> ModelChoice | None:
        """The model that would run for this one, itself or a replacement; None if none can."""
        model = self._in_scene(requested)
        if model is not None and not model.available:
            requested = model = self._registry.successor(model.id)
        if requested is None or model is None or self._scene not in model.scenes:
            return None
        is_enough = self._reference_count >= model.min_references
        return ModelChoice(model, requested) if is_enough else None

    def _in_scene(self, model: ImageModel | None) -> ImageModel | None:
        if model is None or self._scene is Scene.TEXT_TO_IMAGE:
            return model
        return self._registry.for_references(model)
