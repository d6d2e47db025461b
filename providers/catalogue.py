"""The model registry as data: `catalogue.toml`, and the loader that checks every row of it."""

import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from domain.ids import ModelId
from domain.models import (
    SQUARE,
    AspectRatio,
    CustomSize,
    ImageFormat,
    ImageModel,
    ModelRegistry,
    ModelUnavailableReason,
    Quality,
    Resolution,
    Scene,
)

CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")
REHEARSAL: Final = "rehearsal"
"""The provider whose rows are left out where nobody rehearses."""
KEYLESS: Final = frozenset({"local", REHEARSAL})
"""Providers that need no credentials. Whoever is not listed does."""


class CatalogueError(Exception):
    """A row cannot be used. The message is one sentence that names the row and the field."""


def load_catalogue(
    *, rehearsals: bool, with_credentials: Collection[str] = (), path: Path = CATALOGUE
) -> ModelRegistry:
    """Read and check all rows; those of the rehearsal provider are kept only where asked for.

    Rows of a provider that has no credentials here are kept: people see the model, and that it
    cannot be used. Raise `CatalogueError` at the first row that cannot be used.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    usable = KEYLESS.union(with_credentials)
    shared = document.get("shared", {})
    models = [_usable(_routed(row, shared), usable) for row in document.get("models", [])]
    kept = [model for model in models if rehearsals or model.provider != REHEARSAL]
    # What rehearsal rows say is checked in both cases: a mistake must not wait for a rehearsal.
    _check_names(models)
    _check_links(models)
    _check_links(kept)
    _check_defaults(kept)
    return ModelRegistry(kept)


def _ratio(value: object) -> AspectRatio:
    if not isinstance(value, str):
        raise ValueError("An aspect ratio is written as width:height, such as 16:9.")
    return AspectRatio.parse(value)


Text = Annotated[str, Field(min_length=1)]
Ratio = Annotated[AspectRatio, BeforeValidator(_ratio)]


class _CustomSizeRow(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    minimum: int = Field(ge=16)
    maximum: int = Field(le=8192)
    step: int = Field(ge=1)


class _Row(BaseModel):
    """One row as it is written; the fields' defaults are those of `ImageModel`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    label: Text
    description: Text
    company: Text
    provider: Text
    scenes: frozenset[Scene] = Field(min_length=1)
    aliases: tuple[Text, ...] = ()
    listed: bool = True
    is_default: bool = False
    is_new: bool = False
    logo_url: Text | None = None
    unavailable_reason: ModelUnavailableReason | None = None
    retires_at: datetime | None = None
    replacement_id: Text | None = None
    edit_model_id: Text | None = None
    min_references: int = Field(default=0, ge=0)
    max_references: int = Field(default=0, ge=0)
    aspect_ratios: tuple[Ratio, ...] = Field(default=(SQUARE,), min_length=1)
    resolutions: tuple[Resolution, ...] = Field(default=(Resolution.ONE_K,), min_length=1)
    qualities: tuple[Quality, ...] = ()
    formats: tuple[ImageFormat, ...] = ()
    max_images: int = Field(default=1, ge=1)
    images_per_run: int | None = Field(default=None, ge=1)
    custom_size: _CustomSizeRow | None = None
    supports_previews: bool = False
    supports_seed: bool = False
    supports_negative_prompt: bool = False
    mention_spelling: Text | None = None
    endpoint: str = ""
    credits_from_words: int = Field(default=2, ge=0)
    credits_with_references: int = Field(default=4, ge=0)
    deadline_seconds: float = Field(default=180, gt=0)

    def to_model(self) -> ImageModel:
        size = self.custom_size
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        del fields["deadline_seconds"]
        return ImageModel(
            **fields
            | {
                "id": ModelId(self.id),
                "custom_size": size and CustomSize(size.minimum, size.maximum, size.step),
                "deadline": timedelta(seconds=self.deadline_seconds),
            }
        )


def _routed(
    row: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]
) -> Sequence[ImageModel]:
    """The model by each of its routes, in the order of preference. A route's fields come before
    the row's.
    """
    own = {field: value for field, value in row.items() if field != "routes"}
    return [_model({**own, **route}, shared) for route in row.get("routes", [{}])]


def _model(row: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> ImageModel:
    name = row.get("id", "without an id")
    like = row.get("like")
    if like is not None and like not in shared:
        raise CatalogueError(f"Row {name}: like: nothing is shared as {like}.")
    own = {field: value for field, value in row.items() if field != "like"}
    try:
        checked = _Row.model_validate({**shared.get(like or "", {}), **own})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CatalogueError(f"Row {name}: {field}: {first['msg']}.") from error
    for field, problem in _contradictions(checked):
        raise CatalogueError(f"Row {name}: {field}: {problem}.")
    return checked.to_model()


def _usable(routes: Sequence[ImageModel], usable: Collection[str]) -> ImageModel:
    """The model by the first of its routes that can be used here, and by all others that can."""
    open_here = [one for one in routes if one.provider in usable]
    if open_here:
        return replace(open_here[0], other_routes=tuple(open_here[1:]))
    if not routes[0].available:
        return routes[0]
    return replace(routes[0], unavailable_reason=ModelUnavailableReason.NO_CREDENTIALS)


def _contradictions(row: _Row) -> Iterator[tuple[str, str]]:
    size = row.custom_size
    if size is not None and (
        size.minimum > size.maximum or (size.maximum - size.minimum) % size.step
    ):
        yield "custom_size", "the maximum must be whole steps above the minimum"
    if row.min_references > row.max_references:
        yield "min_references", "there cannot be more needed than taken"
    if Scene.IMAGE_TO_IMAGE in row.scenes and not row.max_references:
        yield "max_references", "a model that edits takes at least one"
    if row.mention_spelling is not None and not _spells(row.mention_spelling):
        yield "mention_spelling", "it holds {number} or {index}, and nothing else in braces"
    if row.retires_at is not None and row.retires_at.tzinfo is None:
        yield "retires_at", "an instant needs its offset from UTC"
    for field in ("aspect_ratios", "resolutions", "qualities", "formats"):
        values = getattr(row, field)
        if len(set(values)) != len(values):
            yield field, "a value stands there twice"


def _spells(spelling: str) -> bool:
    try:
        return spelling.format(number=1, index=0) != spelling
    except (KeyError, IndexError, ValueError):
        return False


def _check_names(models: Sequence[ImageModel]) -> None:
    counts = Counter(name for model in models for name in (model.id, *model.aliases))
    for model in models:
        for field, names in (("id", (model.id,)), ("aliases", model.aliases)):
            for name in names:
                if counts[name] > 1:
                    raise CatalogueError(f"Row {model.id}: {field}: {name} is there twice.")


def _check_links(models: Sequence[ImageModel]) -> None:
    by_id = {model.id: model for model in models}
    for model in models:
        for field in ("replacement_id", "edit_model_id"):
            other = getattr(model, field)
            if other is not None and (other not in by_id or other == model.id):
                raise CatalogueError(f"Row {model.id}: {field}: there is no other row {other}.")
        sibling = by_id.get(model.edit_model_id) if model.edit_model_id else None
        if sibling is not None and Scene.IMAGE_TO_IMAGE not in sibling.scenes:
            raise CatalogueError(f"Row {model.id}: edit_model_id: {sibling.id} does not edit.")


def _check_defaults(models: Sequence[ImageModel]) -> None:
    for scene in Scene:
        defaults = [
            model
            for model in models
            if model.available and model.is_default and scene in model.scenes
        ]
        if len(defaults) != 1:
            names = ", ".join(model.id for model in defaults) or "no row"
            raise CatalogueError(
                f"Row {names}: is_default: exactly one available model is the default for {scene}."
            )
