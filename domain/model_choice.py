"""Chooses the models of a turn: the selected ones, or those that it inherits.

A selected model that cannot run is refused. An inherited one is replaced or omitted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import UserErrorCode
from domain.ids import ModelId
from domain.models import AspectRatio, ImageModel, ModelRegistry, Resolution, Scene
from domain.plurals import count
from domain.references import Reference
from domain.refusals import Refusals
from domain.turns import TurnRequest

MAX_MODELS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """The defaults of a turn for what the request leaves out."""

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
        return _inherit_models(registry, inherited, references=references, refusals=refusals)
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
        _refuse_unavailable(requested, registry, refusals=refusals, path=path)
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
    return ModelChoice(model, requested)


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
) -> list[ModelChoice]:
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
) -> list[ModelChoice]:
    able: dict[ModelId, ModelChoice] = {}
    for requested in models:
        model = registry.for_references(requested) if scene is Scene.IMAGE_TO_IMAGE else requested
        enough = model is not None and reference_count >= model.min_references
        if model is not None and enough and model.available and scene in model.scenes:
            able.setdefault(model.id, ModelChoice(model, requested))
    return list(able.values())
