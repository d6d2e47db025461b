"""Shared by tests of caption models: requests with defaults, and an observer that records."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Protocol

import pytest

from domain.captions import CaptionModel, CaptionOptions, CaptionRequest
from domain.errors import GenerationFailed
from domain.images import Image
from domain.outputs import ProviderJob
from domain.ports.providers import CaptionWriter
from providers.catalogue import load_caption_models
from providers.gemini.writer import GeminiWriter
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.writer import OpenAIWriter
from providers.openrouter.writer import OpenRouterWriter
from providers.polling import Pace
from providers.references import References
from tests.providers.runs import QUICK, Played
from tests.simulators.openai import CHAT_DEPLOYMENTS

MESSAGE: Final = "Our new lavender soap"


class OpensWriter(Protocol):
    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int, pace: Pace
    ) -> OpenAIWriter | GeminiWriter | OpenRouterWriter: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingVendor:
    """How a provider's writer is opened, and what its scripts call what can happen."""

    open: OpensWriter
    model: str
    refusals: tuple[str, ...]
    failures: Mapping[str, str]
    """Scripts and the codes that they end with."""


def _open_openai(references: References, /, *, key: str, url: str, **more: Any) -> OpenAIWriter:
    return OpenAIWriter(references, OpenAIBackend(key=key, url=url), **more)


def _open_azure(references: References, /, *, key: str, url: str, **more: Any) -> OpenAIWriter:
    deployments = {model: name for name, model in CHAT_DEPLOYMENTS.items()}
    backend = AzureBackend(key=key, url=url, api_version="preview", deployments=deployments)
    return OpenAIWriter(references, backend, **more)


WRITERS: Final[Mapping[str, WritingVendor]] = {
    "openai": WritingVendor(
        open=_open_openai,
        model="caption-gpt-6-luna",
        refusals=(
            "fail=chat-filter",
            "fail=chat-refusal",
            "fail=content_filter",
            "fail=chat-sign",
        ),
        failures={
            "fail=insufficient_quota": "PROVIDER_AUTHENTICATION",
            "fail=model_not_found": "MODEL_RETIRED",
            "fail=invalid_value": "PROVIDER_REJECTED_INPUT",
            "fail=server_error": "PROVIDER_UNAVAILABLE",
            "fail=server_error late": "PROVIDER_UNAVAILABLE",
            "fail=rate_limit_exceeded late": "PROVIDER_RATE_LIMITED",
        },
    ),
    "azure": WritingVendor(
        open=_open_azure,
        model="caption-gpt-4-1",
        refusals=("fail=chat-filter", "fail=content_filter", "fail=contentFilter"),
        failures={
            "fail=DeploymentNotFound": "PROVIDER_AUTHENTICATION",
            "fail=invalid_value": "PROVIDER_REJECTED_INPUT",
            "fail=server_error late": "PROVIDER_UNAVAILABLE",
        },
    ),
    "gemini": WritingVendor(
        open=GeminiWriter,
        model="caption-gemini-3-6-flash",
        refusals=(
            "fail=SAFETY",
            "fail=prompt-PROHIBITED_CONTENT",
            "fail=RECITATION",
            "fail=chat-sign",
        ),
        failures={
            "fail=key": "PROVIDER_AUTHENTICATION",
            "fail=404": "MODEL_RETIRED",
            "fail=400": "PROVIDER_REJECTED_INPUT",
            "fail=503 late": "PROVIDER_UNAVAILABLE",
            "fail=429 late": "PROVIDER_RATE_LIMITED",
            "fail=LANGUAGE": "PROVIDER_REJECTED_INPUT",
        },
    ),
    "openrouter": WritingVendor(
        open=OpenRouterWriter,
        model="caption-gpt-4-1",
        refusals=(
            "fail=chat-filter",
            "fail=chat-refusal",
            "fail=chat-sign",
            "fail=moderation",
            "fail=policy late",
        ),
        failures={
            "fail=credit": "PROVIDER_AUTHENTICATION",
            "fail=deprecated": "MODEL_RETIRED",
            "fail=422": "PROVIDER_REJECTED_INPUT",
            "fail=dropped late": "PROVIDER_UNAVAILABLE",
            "fail=limit-as-word late": "PROVIDER_RATE_LIMITED",
        },
    ),
}


class WritingWitness:
    """An observer that remembers everything in its order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.texts: list[str] = []
        self.has_text = asyncio.Event()

    async def submitting(self) -> None:
        self.events.append("submitting")

    async def submitted(self, _: ProviderJob) -> None:
        raise AssertionError("Writers have no jobs.")

    async def text(self, so_far: str) -> None:
        self.events.append("text")
        self.texts.append(so_far)
        self.has_text.set()


@cache
def rows_of(provider: str) -> list[CaptionModel]:
    """The rows of the catalogue that this provider serves."""
    models = load_caption_models(rehearsals=True, with_credentials={provider})
    return [row for row in models.all() if row.provider == provider]


def model_of(name: str, provider: str) -> CaptionModel:
    """A row as this provider serves it."""
    (row,) = (row for row in rows_of(provider) if row.id == name)
    return row


def a_caption(
    message: str = MESSAGE,
    *references: Image,
    model: CaptionModel | None = None,
    attempt: int = 1,
    prompts: tuple[str, ...] = (),
    **options: Any,
) -> CaptionRequest:
    return CaptionRequest(
        attempt=attempt,
        model=model or model_of("local-writer", "local"),
        message=message,
        options=CaptionOptions(**options),
        references=references,
        reference_prompts=prompts,
        seconds_left=30.0,
    )


@dataclass
class Writing:
    """A provider's writer on its simulator."""

    vendor: WritingVendor
    played: Played

    def writer(self, *, url: str | None = None, key: str | None = None) -> CaptionWriter:
        writer = self.vendor.open(
            self.played.references(),
            key=key or self.played.simulator.key,
            url=f"{url or self.played.url}{self.played.vendor.path}",
            max_concurrent_runs=20,
            pace=QUICK,
        )
        self.played.stack.push_async_callback(writer.aclose)
        return writer

    def request(self, script: str = "", *references: Image, **more: Any) -> CaptionRequest:
        name = self.played.vendor.simulator.provider
        message = f"{MESSAGE} [{name} {script}]" if script else MESSAGE
        model = model_of(self.vendor.model, self.played.vendor.name)
        seconds_left = more.pop("seconds_left", 30.0)
        request = a_caption(message, *references, model=model, **more)
        return replace(request, seconds_left=seconds_left)

    async def failed(
        self, request: CaptionRequest, observer: WritingWitness | None = None, **opened: str
    ) -> GenerationFailed:
        with pytest.raises(GenerationFailed) as failed:
            await self.writer(**opened).write(request, observer or WritingWitness())
        return failed.value
