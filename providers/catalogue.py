"""The model catalogue as data: `catalogue.toml`, and the loader that checks every row of it.

A row is an `ImageModel` or a `CaptionModel`, and its `wire` has the type in which its provider
describes how a model is asked: there is no second list of their fields.
"""

import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import providers.fal.wire
import providers.gemini.wire
import providers.openai.wire
import providers.openrouter.wire
import providers.polled.payloads
from domain.captions import CaptionModel, CaptionModelRegistry
from domain.ids import ModelId
from domain.models import ImageModel, ModelRegistry, Scene
from domain.registry import ModelT, ModelUnavailableReason, RegisteredModel, Registry
from providers.captions import CaptionEndpoint
from providers.own_catalogue import OwnCatalogue
from providers.tables import TableError, build

CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")
LOCAL: Final = "local"
"""The provider whose models run on this machine: defaults only where no remote one is available."""
REHEARSAL: Final = "rehearsal"
"""The provider whose rows are left out unless they are requested."""
KEYLESS: Final = frozenset({LOCAL, REHEARSAL})
"""Providers that need no credentials. All others do."""
WIRES: Final[Mapping[str, type]] = {
    "fal": providers.fal.wire.Endpoint,
    "gemini": providers.gemini.wire.Endpoint,
    "openrouter": providers.openrouter.wire.Endpoint,
    **dict.fromkeys(("openai", "azure"), providers.openai.wire.Endpoint),
    **dict.fromkeys(("replicate", "wavespeed"), providers.polled.payloads.Endpoint),
}
"""The type of `wire` in the row of an image model, by the row's provider."""
CAPTION_WIRES: Final[Mapping[str, type]] = dict.fromkeys(
    ("openai", "azure", "gemini", "openrouter"), CaptionEndpoint
)
"""The same for caption models."""
_WIRES_OF: Final[Mapping[type, Mapping[str, type]]] = {
    ImageModel: WIRES,
    CaptionModel: CAPTION_WIRES,
}
_TABLES: Final[Mapping[type, str]] = {ImageModel: "models", CaptionModel: "caption_models"}


class CatalogueError(Exception):
    """A row cannot be used. The message is one sentence that names the row and the field."""


class UnknownDefaultModel(Exception):
    """A default model is not in the catalogue. The message is one sentence."""


def load_catalogue(
    *,
    rehearsals: bool,
    with_credentials: Collection[str] = (),
    local_models: bool = True,
    default_models: Sequence[str] = (),
    logo_url_of: Callable[[str], str] | None = None,
    own: OwnCatalogue | None = None,
    path: Path = CATALOGUE,
) -> ModelRegistry:
    """Read and check all rows of image models; keep those of the rehearsal provider only if
    requested.

    Rows of a provider without credentials are kept: people see that the model exists and cannot be
    used. Without `local_models` the local ones are kept too, unlisted and unavailable, since stored
    outputs name them. `default_models` are tried as defaults before all others. `logo_url_of` a
    company is used for a row without a `logo_url`. `own` contains the operator's changes. Raise
    `CatalogueError` at the first row that cannot be used, `OwnCatalogueError` and
    `UnknownDefaultModel`.
    """
    document = _document(path, own)
    models = _read(ImageModel, document, with_credentials, local_models=local_models)
    if logo_url_of is not None:
        models = [
            model if model.logo_url else replace(model, logo_url=logo_url_of(model.company))
            for model in models
        ]
    kept = _without_rehearsals(models, rehearsals)
    # Rehearsal rows are checked in either case: a mistake must not wait for a rehearsal.
    _check_rows(models)
    _check_editors(models)
    _check_links(kept)
    registry = ModelRegistry(kept, defaults=[*default_models, *_default_order(kept)])
    _check_defaults(default_models, registry)
    return registry


def load_caption_models(
    *,
    rehearsals: bool,
    with_credentials: Collection[str] = (),
    local_models: bool = True,
    default_models: Sequence[str] = (),
    own: OwnCatalogue | None = None,
    path: Path = CATALOGUE,
) -> CaptionModelRegistry:
    """Read and check all rows of caption models, as `load_catalogue` does those of image models."""
    document = _document(path, own)
    models = _read(CaptionModel, document, with_credentials, local_models=local_models)
    kept = _without_rehearsals(models, rehearsals)
    _check_rows(models)
    _check_links(kept)
    registry = CaptionModelRegistry(kept, defaults=[*default_models, *_default_order(kept)])
    _check_defaults(default_models, registry)
    return registry


def _document(path: Path, own: OwnCatalogue | None) -> dict[str, Any]:
    document = _parse(path.read_text(encoding="utf-8"))
    return own.adapt(document, _TABLES.values()) if own is not None else document


# Image models and caption models are read of one file, which nobody changes once it is parsed.
@lru_cache(maxsize=1)
def _parse(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def _read(
    kind: type[ModelT],
    document: Mapping[str, Any],
    with_credentials: Collection[str],
    *,
    local_models: bool,
) -> list[ModelT]:
    """All models of one kind, in the order of their rows."""
    shared = document.get("shared", {})
    usable = KEYLESS.union(with_credentials)
    rows = document.get(_TABLES[kind], [])
    models = [_usable(_routed(kind, row, shared), usable) for row in rows]
    if local_models:
        return models
    return [_switched_off(model) if model.provider == LOCAL else model for model in models]


def _without_rehearsals(models: Sequence[ModelT], rehearsals: bool) -> list[ModelT]:
    return [model for model in models if rehearsals or model.provider != REHEARSAL]


def _switched_off(model: ModelT) -> ModelT:
    return replace(model, listed=False, unavailable_reason=ModelUnavailableReason.SWITCHED_OFF)


def _default_order(models: Iterable[RegisteredModel]) -> Sequence[str]:
    """The ids of possible defaults: the remote models first, then the local ones."""
    listed = [model for model in models if model.listed and model.provider != REHEARSAL]
    return [model.id for model in sorted(listed, key=lambda model: model.provider == LOCAL)]


def _check_defaults(names: Iterable[str], registry: Registry[ModelT]) -> None:
    for name in names:
        if registry.get(name) is None:
            raise UnknownDefaultModel(f"There is no model {name}.")


def _routed(
    kind: type[ModelT], row: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]
) -> Sequence[ModelT]:
    """The model by each of its routes, in the order of preference. A route's fields override the
    row's.
    """
    own = {field: value for field, value in row.items() if field != "routes"}
    return [_model(kind, {**own, **route}, shared) for route in row.get("routes", [{}])]


def _model(
    kind: type[ModelT], row: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]
) -> ModelT:
    name = row.get("id", "without an id")
    like = row.get("like")
    if like is not None and like not in shared:
        raise CatalogueError(f"Row {name}: like: nothing is shared as {like}.")
    own = {field: value for field, value in row.items() if field != "like"}
    try:
        model = build(kind, _prepared({**shared.get(like or "", {}), **own}, _WIRES_OF[kind]))
    except TableError as error:
        raise CatalogueError(f"Row {name}: {error}.") from error
    for field, problem in _contradictions(model):
        raise CatalogueError(f"Row {name}: {field}: {problem}.")
    return model


def _prepared(row: Mapping[str, Any], wires: Mapping[str, type]) -> dict[str, Any]:
    """The row with `wire` as its provider's type, and its deadline as a length of time."""
    prepared = dict(row)
    wire = wires.get(row.get("provider", ""))
    if wire is not None:
        prepared["wire"] = build(wire, row.get("wire", {}), path="wire.")
    elif "wire" in row:
        raise TableError("wire", f"{row.get('provider')} has no use for it")
    seconds = prepared.pop("deadline_seconds", None)
    if seconds is not None:
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise TableError("deadline_seconds", "it must be a whole number")
        prepared["deadline"] = timedelta(seconds=seconds)
    return prepared


def _usable(routes: Sequence[ModelT], usable: Collection[str]) -> ModelT:
    """The model by the first of its routes that can be used here, and by all others that can."""
    names = tuple(dict.fromkeys(route.provider for route in routes))
    routes = [replace(route, route_providers=names) for route in routes]
    open_here = [route for route in routes if route.provider in usable]
    if open_here:
        return replace(open_here[0], other_routes=tuple(open_here[1:]))
    if not routes[0].available:
        return routes[0]
    return replace(routes[0], unavailable_reason=ModelUnavailableReason.NO_CREDENTIALS)


_AT_LEAST: Final = {
    **dict.fromkeys(("max_images", "images_per_run"), 1),
    **dict.fromkeys(("min_references", "max_references"), 0),
    **dict.fromkeys(("credits_from_words", "credits_with_references", "credits"), 0),
}
_NOT_EMPTY: Final = (
    *("id", "label", "description", "company", "provider", "scenes"),
    *("aspect_ratios", "resolutions", "logo_url", "replacement_id", "edit_model_id"),
)
_MIN_SIDE_PIXELS: Final = 16
_MAX_SIDE_PIXELS: Final = 8192


def _contradictions(model: RegisteredModel) -> Iterator[tuple[str, str]]:
    """Checks of fields that their types cannot express, and what is wrong with them."""
    for field in _NOT_EMPTY:
        value = getattr(model, field, None)
        if value is not None and not value:
            yield field, "it is empty"
    for field, least in _AT_LEAST.items():
        value = getattr(model, field, None)
        if value is not None and value < least:
            yield field, f"it must be at least {least}"
    if not all(model.aliases):
        yield "aliases", "one is empty"
    if model.deadline <= timedelta():
        yield "deadline_seconds", "it must be at least 1"
    if isinstance(model, ImageModel):
        yield from _contradictions_of_images(model)
    if model.retires_at is not None and model.retires_at.tzinfo is None:
        yield "retires_at", "an instant needs its offset from UTC"


def _contradictions_of_images(model: ImageModel) -> Iterator[tuple[str, str]]:
    size = model.custom_size
    if size is not None and (
        size.step < 1
        or not _MIN_SIDE_PIXELS <= size.minimum <= size.maximum <= _MAX_SIDE_PIXELS
        or (size.maximum - size.minimum) % size.step
    ):
        yield (
            "custom_size",
            (
                "the maximum must be whole steps above the minimum, "
                f"both from {_MIN_SIDE_PIXELS} to {_MAX_SIDE_PIXELS}"
            ),
        )
    yield from _odd_prices(model)
    if model.min_references > model.max_references:
        yield "min_references", "there cannot be more required than taken"
    if Scene.IMAGE_TO_IMAGE in model.scenes and not model.max_references:
        yield "max_references", "a model that edits takes at least one"
    if model.supports_masks and Scene.IMAGE_TO_IMAGE not in model.scenes:
        yield "supports_masks", "a model that does not edit has no use for a mask"
    if model.mention_spelling is not None and not _spells(model.mention_spelling):
        yield "mention_spelling", "it holds {number} or {index}, and nothing else in braces"


def _odd_prices(model: ImageModel) -> Iterator[tuple[str, str]]:
    """Prices that can never be charged, or must not be."""
    for index, price in enumerate(model.prices):
        field = f"prices.{index}"
        if price.credits < 0:
            yield f"{field}.credits", "it must be at least 0"
        for name, offered in (
            ("scene", model.scenes),
            ("resolution", model.resolutions),
            ("quality", model.qualities),
        ):
            wanted = getattr(price, name)
            if wanted is not None and wanted not in offered:
                yield f"{field}.{name}", f"the model does not support {wanted}"
        if any(earlier.covers(price) for earlier in model.prices[:index]):
            yield field, "an earlier price applies in all of its cases"


def _spells(spelling: str) -> bool:
    try:
        return spelling.format(number=1, index=0) != spelling
    except (KeyError, IndexError, ValueError):
        return False


def _check_rows(models: Sequence[RegisteredModel]) -> None:
    _check_names(models)
    _check_labels(models)
    _check_links(models)


def _check_names(models: Sequence[RegisteredModel]) -> None:
    counts = Counter(name for model in models for name in (model.id, *model.aliases))
    for model in models:
        for field, names in (("id", (model.id,)), ("aliases", model.aliases)):
            for name in names:
                if counts[name] > 1:
                    raise CatalogueError(f"Row {model.id}: {field}: {name} is there twice.")


def _check_labels(models: Sequence[RegisteredModel]) -> None:
    """People tell models apart by their labels, and do not notice hyphens or capital letters."""
    seen: dict[str, ModelId] = {}
    for model in models:
        spoken = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", model.label).casefold()))
        other = seen.setdefault(spoken, model.id)
        if other != model.id:
            raise CatalogueError(f"Row {model.id}: label: {other} is called {model.label} too.")


def _check_links(models: Sequence[RegisteredModel]) -> None:
    ids = {model.id for model in models}
    for model in models:
        for field in ("replacement_id", "edit_model_id"):
            other = getattr(model, field, None)
            if other is not None and (other not in ids or other == model.id):
                raise CatalogueError(f"Row {model.id}: {field}: there is no other row {other}.")


def _check_editors(models: Sequence[ImageModel]) -> None:
    by_id = {model.id: model for model in models}
    for model in models:
        sibling = by_id.get(model.edit_model_id) if model.edit_model_id else None
        if sibling is not None and Scene.IMAGE_TO_IMAGE not in sibling.scenes:
            raise CatalogueError(f"Row {model.id}: edit_model_id: {sibling.id} does not edit.")
