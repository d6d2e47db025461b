"""Providers with credentials, decoding, and the object store: what images are made and
stored with.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.routing import Route

from assembly.objects import open_objects
from domain.ports.objects import Objects
from domain.ports.providers import CaptionWriter, Provider
from domain.signing import Signer
from providers.fal.provider import FalProvider
from providers.gemini.provider import GeminiProvider
from providers.gemini.writer import GeminiWriter
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.openai.writer import OpenAIWriter
from providers.openrouter.provider import OpenRouterProvider
from providers.openrouter.writer import OpenRouterWriter
from providers.references import References
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from settings import (
    AzureSettings,
    ProviderSettings,
    Settings,
    SettingsError,
    other_secrets_of,
    secret_of,
    variable_of,
)
from storage.imaging.content_credentials import ContentCredentials, CredentialsError
from storage.imaging.threaded import ThreadedImageProcessor


class _RemoteProvider(Provider, Protocol):
    async def aclose(self) -> None: ...


class _RemoteWriter(CaptionWriter, Protocol):
    async def aclose(self) -> None: ...


class _OpenProvider(Protocol):
    """Opens a provider with a key, a URL, and its maximum of concurrent runs."""

    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int
    ) -> _RemoteProvider: ...


class _OpenWriter(Protocol):
    """Opens a writer with a key, a URL, and its maximum of concurrent runs."""

    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int
    ) -> _RemoteWriter: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTools:
    """What images are made and stored with. It needs no database."""

    objects: Objects
    object_routes: Sequence[Route]
    signer: Signer
    image_processor: ThreadedImageProcessor
    remote: Mapping[str, Provider]
    """Providers that have credentials here, by name."""
    remote_writers: Mapping[str, CaptionWriter]
    """The writers of these providers."""


@asynccontextmanager
async def open_image_tools(settings: Settings) -> AsyncIterator[ImageTools]:
    """Open the providers that the settings have credentials for, and close them at the end."""
    async with AsyncExitStack() as stack:
        signer = Signer(secret_of(settings), accepted=other_secrets_of(settings))
        objects, object_routes = await stack.enter_async_context(open_objects(settings, signer))
        image_processor = ThreadedImageProcessor(credentials=_read_credentials(settings))
        stack.push_async_callback(image_processor.aclose)
        references = References(objects, image_processor)
        remote: dict[str, Provider] = {}
        for provider in _open_providers(settings, references):
            stack.push_async_callback(provider.aclose)
            remote[provider.name] = provider
        remote_writers: dict[str, CaptionWriter] = {}
        for writer in _open_writers(settings, references):
            stack.push_async_callback(writer.aclose)
            remote_writers[writer.name] = writer
        yield ImageTools(
            objects=objects,
            object_routes=object_routes,
            signer=signer,
            image_processor=image_processor,
            remote=remote,
            remote_writers=remote_writers,
        )


def _read_credentials(settings: Settings) -> ContentCredentials | None:
    """What signs generated images, if the settings have a certificate. Raise `SettingsError` if it
    cannot sign.
    """
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        return None
    try:
        return ContentCredentials.read(settings.c2pa_certificate, settings.c2pa_key)
    except CredentialsError as error:
        raise SettingsError([f"{variable_of(Settings, 'c2pa_certificate')}: {error}"]) from error


def _open_providers(settings: Settings, references: References) -> Iterator[_RemoteProvider]:
    openers: list[tuple[_OpenProvider, ProviderSettings | AzureSettings]] = [
        (FalProvider, settings.fal),
        (_open_openai, settings.openai),
        (partial(_open_azure, settings.azure), settings.azure),
        (GeminiProvider, settings.gemini),
        (OpenRouterProvider, settings.openrouter),
        (ReplicateProvider, settings.replicate),
        (WavespeedProvider, settings.wavespeed),
    ]
    for open_provider, provider_settings in openers:
        if provider_settings.key is not None and provider_settings.url is not None:
            yield open_provider(
                references,
                key=provider_settings.key.get_secret_value(),
                url=provider_settings.url,
                max_concurrent_runs=provider_settings.max_concurrent_runs,
            )


def _open_writers(settings: Settings, references: References) -> Iterator[_RemoteWriter]:
    openers: list[tuple[_OpenWriter, ProviderSettings | AzureSettings]] = [
        (_open_openai_writer, settings.openai),
        (partial(_open_azure_writer, settings.azure), settings.azure),
        (GeminiWriter, settings.gemini),
        (OpenRouterWriter, settings.openrouter),
    ]
    for open_writer, provider_settings in openers:
        if provider_settings.key is not None and provider_settings.url is not None:
            yield open_writer(
                references,
                key=provider_settings.key.get_secret_value(),
                url=provider_settings.url,
                max_concurrent_runs=provider_settings.max_concurrent_runs,
            )


def _open_openai(
    references: References, *, key: str, url: str, max_concurrent_runs: int
) -> OpenAIProvider:
    backend = OpenAIBackend(key=key, url=url)
    return OpenAIProvider(references, backend, max_concurrent_runs=max_concurrent_runs)


def _open_openai_writer(
    references: References, *, key: str, url: str, max_concurrent_runs: int
) -> OpenAIWriter:
    backend = OpenAIBackend(key=key, url=url)
    return OpenAIWriter(references, backend, max_concurrent_runs=max_concurrent_runs)


def _open_azure(
    settings: AzureSettings,
    references: References,
    *,
    key: str,
    url: str,
    max_concurrent_runs: int,
) -> OpenAIProvider:
    backend = _azure_backend(settings, key=key, url=url)
    return OpenAIProvider(references, backend, max_concurrent_runs=max_concurrent_runs)


def _open_azure_writer(
    settings: AzureSettings,
    references: References,
    *,
    key: str,
    url: str,
    max_concurrent_runs: int,
) -> OpenAIWriter:
    backend = _azure_backend(settings, key=key, url=url)
    return OpenAIWriter(references, backend, max_concurrent_runs=max_concurrent_runs)


def _azure_backend(settings: AzureSettings, *, key: str, url: str) -> AzureBackend:
    return AzureBackend(
        key=key, url=url, api_version=settings.api_version, deployments=settings.deployments
    )
