"""The remote providers as their documentation describes them: one row each.

A new provider passes the contract (`test_contract*.py`) as soon as it has a row here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import SQUARE, AspectRatio, ImageModel, ModelRegistry
from domain.outputs import ProviderJob
from domain.ports.providers import Provider
from providers.catalogue import load_catalogue
from providers.fal.provider import FalProvider
from providers.gemini.provider import GeminiProvider
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.openrouter.provider import OpenRouterProvider
from providers.polling import Pace
from providers.references import References
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from tests.simulators.fal import FalSimulator
from tests.simulators.gemini import GeminiSimulator
from tests.simulators.openai import OpenAISimulator
from tests.simulators.openrouter import OpenRouterSimulator
from tests.simulators.replicate import ReplicateSimulator
from tests.simulators.simulator import Simulator
from tests.simulators.wavespeed import WavespeedSimulator

SECONDS_LEFT: Final = 30.0
"""Long enough for a busy machine: runs that fail at once must not come near it."""
DEPLOYMENTS: Final = {"gpt-image-2": "our-pictures"}
Payload = Mapping[str, Any]


class RemoteProvider(Provider, Protocol):
    async def aclose(self) -> None: ...


class Opens(Protocol):
    def __call__(
        self,
        references: References,
        /,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        pace: Pace,
        max_bytes: int,
    ) -> RemoteProvider: ...


def _open_openai(references: References, /, *, key: str, url: str, **more: Any) -> OpenAIProvider:
    return OpenAIProvider(references, OpenAIBackend(key=key, url=url), **more)


def _open_azure(references: References, /, *, key: str, url: str, **more: Any) -> OpenAIProvider:
    backend = AzureBackend(key=key, url=url, api_version="preview", deployments=DEPLOYMENTS)
    return OpenAIProvider(references, backend, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One provider: how it is opened, and what its documentation says about it."""

    name: str
    simulator: type[Simulator]
    open: Opens
    path: str = ""
    """Of its API, below its origin."""
    model: str
    """The default model of a run."""
    streamed: str | None = None
    """A row that shows previews; None where no model does."""
    result: str
    """The word of a script for the answer that carries the result."""
    refusal: str
    """The script of a refusal because of the prompt."""
    references: Callable[[Payload], int]
    """How many pictures a payload on the bill has."""
    job: Callable[[str], ProviderJob] | None = None
    """A stored job with this id; None where there are no jobs."""
    can_cancel: bool = False

    def results(self, fault: str) -> str:
        """A script in which the answer that carries the result has a fault."""
        # A job that is polled has to last longer than its submission.
        lasts = " seconds=5" if self.result == "status" else ""
        return f"{self.result}={fault}{lasts}"

    @property
    def has_jobs(self) -> bool:
        return self.job is not None

    @property
    def rows(self) -> ModelRegistry:
        """The catalogue where only this provider has credentials."""
        return _ROWS[self.name]

    def row(self, model: str | None = None) -> ImageModel:
        row = self.rows.get(model or self.model)
        assert row is not None
        assert row.provider == self.name
        return row

    def run(
        self,
        script: str = "",
        *references: Image,
        model: str | ImageModel | None = None,
        words: str = "A lighthouse",
        aspect_ratio: str | None = None,
        **options: Any,
    ) -> GenerationRequest:
        """A request for a run that does what the script says. Options are those of a request."""
        row = model if isinstance(model, ImageModel) else self.row(model)
        square = SQUARE if SQUARE in row.aspect_ratios else row.aspect_ratios[0]
        request = GenerationRequest(
            attempt=1,
            model=row,
            prompt=f"{words} [{self.simulator.provider} {script}]" if script else words,
            references=references,
            aspect_ratio=AspectRatio.parse(aspect_ratio) if aspect_ratio else square,
            resolution=row.resolutions[0],
            seconds_left=SECONDS_LEFT,
        )
        return replace(request, **options)

    def run_streamed(self, script: str = "", **options: Any) -> GenerationRequest:
        """The same, answered with events."""
        return self.run(script, **{"model": self.streamed, "preview_count": 2, **options})


def _references_of_fal(payload: Payload) -> int:
    return len(payload.get("image_urls", [])) + ("image_url" in payload)


def _references_of_gemini(payload: Payload) -> int:
    (content,) = payload["sent"]["contents"]
    return sum("inlineData" in part for part in content["parts"])


def _fal_job(request_id: str) -> ProviderJob:
    return {"endpoint": "fal-ai/gemini-25-flash-image", "request_id": request_id}


_ALL: Final = (
    Vendor(
        name="fal",
        simulator=FalSimulator,
        open=FalProvider,
        model="img-nano-banana",
        result="result",
        refusal="fail=content_policy_violation",
        references=_references_of_fal,
        job=_fal_job,
        can_cancel=True,
    ),
    Vendor(
        name="openai",
        simulator=OpenAISimulator,
        open=_open_openai,
        path="/v1",
        model="img-gpt-image-2-5-flare",
        streamed="img-gpt-image-2-5-flare",
        result="result",
        refusal="fail=moderation_blocked",
        references=lambda payload: len(payload.get("image[]", [])),
    ),
    Vendor(
        name="azure",
        simulator=OpenAISimulator,
        open=_open_azure,
        model="img-gpt-image-2",
        streamed="img-gpt-image-2",
        result="result",
        refusal="fail=contentFilter",
        references=lambda payload: len(payload.get("image[]", [])),
    ),
    Vendor(
        name="gemini",
        simulator=GeminiSimulator,
        open=GeminiProvider,
        model="img-nano-banana-2-1",
        streamed="img-nano-banana-2-1",
        result="submit",
        refusal="fail=prompt-PROHIBITED_CONTENT",
        references=_references_of_gemini,
    ),
    Vendor(
        name="openrouter",
        simulator=OpenRouterSimulator,
        open=OpenRouterProvider,
        path="/api/v1",
        model="img-flux-2-flex",
        streamed="img-gpt-5-image",
        result="submit",
        refusal="fail=moderation",
        references=lambda payload: len(payload["sent"].get("input_references", [])),
    ),
    Vendor(
        name="replicate",
        simulator=ReplicateSimulator,
        open=ReplicateProvider,
        path="/v1",
        model="img-flux-schnell",
        result="status",
        refusal="fail=sensitive",
        references=lambda payload: len(payload.get("image_input", [])),
        job=lambda job_id: {"id": job_id},
        can_cancel=True,
    ),
    Vendor(
        name="wavespeed",
        simulator=WavespeedSimulator,
        open=WavespeedProvider,
        path="/api/v3",
        model="img-imagen3",
        result="status",
        refusal="fail=1200",
        references=lambda payload: len(payload.get("images", [])),
        job=lambda job_id: {"id": job_id},
    ),
)
_ROWS: Final = {
    vendor.name: load_catalogue(rehearsals=False, with_credentials={vendor.name}) for vendor in _ALL
}
VENDORS: Final[Mapping[str, Vendor]] = {vendor.name: vendor for vendor in _ALL}
WITH_JOBS: Final = [vendor.name for vendor in _ALL if vendor.has_jobs]
SYNCHRONOUS: Final = [vendor.name for vendor in _ALL if not vendor.has_jobs]


def rows_of(provider: str) -> list[ImageModel]:
    """The rows of the catalogue as this provider serves them, on any of their routes."""
    return [row for row in VENDORS[provider].rows.all() if row.provider == provider]
