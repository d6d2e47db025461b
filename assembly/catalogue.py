"""The catalogues of models under these settings, and the documents that are trusted."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import structlog

from domain.captions import CaptionModelRegistry
from domain.models import ModelRegistry, Scene
from domain.registry import RegisteredModel
from edge.logos import logo_path
from edge.persisted import read_trusted_documents
from providers.catalogue import (
    CatalogueError,
    UnknownDefaultModel,
    load_caption_models,
    load_catalogue,
)
from providers.own_catalogue import OwnCatalogue, OwnCatalogueError, read_own_catalogue
from settings import Settings, SettingsError, variable_of

log = structlog.get_logger(__name__)


def load_registry(settings: Settings, *, with_credentials: Collection[str] = ()) -> ModelRegistry:
    """The model catalogue under these settings. Raise `SettingsError` if they do not fit it."""
    with _catalogue_errors("default_models"):
        return load_catalogue(
            rehearsals=settings.environment == "development",
            with_credentials=with_credentials,
            local_models=bool(settings.local_models),
            default_models=settings.default_models,
            logo_url_of=lambda company: settings.public_url + logo_path(company),
            own=_own_catalogue(settings),
        )


def load_caption_registry(
    settings: Settings, *, with_credentials: Collection[str] = ()
) -> CaptionModelRegistry:
    """The same for caption models."""
    with _catalogue_errors("default_caption_models"):
        return load_caption_models(
            rehearsals=settings.environment == "development",
            with_credentials=with_credentials,
            local_models=bool(settings.local_models),
            default_models=settings.default_caption_models,
            own=_own_catalogue(settings),
        )


def load_trusted_documents(settings: Settings) -> Mapping[str, str]:
    """Documents by id. Raise `SettingsError` if the file cannot be read."""
    path = settings.trusted_documents
    if path is None:
        return {}
    try:
        return read_trusted_documents(path)
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or "it is not a list of documents"
        raise SettingsError(
            [f"{variable_of(Settings, 'trusted_documents')}={path} cannot be read: {reason}."]
        ) from error


def _own_catalogue(settings: Settings) -> OwnCatalogue | None:
    return read_own_catalogue(settings.catalogue) if settings.catalogue is not None else None


@contextmanager
def _catalogue_errors(defaults: str) -> Iterator[None]:
    """Say which setting does not fit the catalogue."""
    try:
        yield
    except UnknownDefaultModel as error:
        raise SettingsError([f"{variable_of(Settings, defaults)}: {error}"]) from error
    except (OwnCatalogueError, CatalogueError) as error:
        raise SettingsError([f"{variable_of(Settings, 'catalogue')}: {error}"]) from error


def log_defaults(registry: ModelRegistry, caption_models: CaptionModelRegistry) -> None:
    defaults: dict[str, RegisteredModel | None] = {
        scene.value: registry.default(scene) for scene in Scene
    }
    defaults["caption"] = caption_models.default()
    for scene, default in defaults.items():
        write = log.info if default else log.warning
        write("default model", scene=scene, model=default.id if default else None)
