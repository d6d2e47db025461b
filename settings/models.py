"""Which models there are, and what their providers need."""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from settings.values import HttpsUrl, Key, Names

_KEY_FIELD: Final[Any] = Field(
    default=None, description="An API key of {}; without one, its models are listed as unavailable"
)
_MAX_CONCURRENT_RUNS_FIELD: Final[Any] = Field(
    default=20,
    validation_alias="places",  # in the variable's name
    ge=1,
    le=1000,
    description="How many outputs one process runs at {} at the same time",
)
_MAX_TOTAL_RUNS_FIELD: Final[Any] = Field(
    default=None,
    validation_alias="total_places",  # in the variable's name
    ge=1,
    le=10_000,
    description="How many outputs all processes together run at {} at the same time (default: as "
    "many as each of them may)",
)


class ProviderSettings(BaseModel, frozen=True):
    """What is needed to use a provider: DARKROOM_FAL_KEY is `settings.fal.key`.

    The descriptions are completed with the provider's name.
    """

    key: Key | None = _KEY_FIELD
    url: HttpsUrl = Field(
        default="", description="The API URL of {}; plain http on loopback only, for a simulator"
    )
    max_concurrent_runs: int = _MAX_CONCURRENT_RUNS_FIELD
    max_total_runs: int | None = _MAX_TOTAL_RUNS_FIELD


class AzureSettings(BaseModel, frozen=True):
    key: Key | None = _KEY_FIELD
    url: HttpsUrl | None = Field(
        default=None,
        description="The origin of the {} resource, such as https://name.openai.azure.com (needed "
        "with its key)",
    )
    api_version: str = Field(
        default="preview",
        description="`preview`, or nothing, for Azure's v1 API; a date for the URLs that contain "
        "the deployment",
    )
    deployments: Annotated[dict[str, str], NoDecode] = Field(
        default={},
        description="Names of deployments, such as gpt-image-2=ours, separated by commas; any "
        "other model has a deployment of its own name",
    )
    max_concurrent_runs: int = _MAX_CONCURRENT_RUNS_FIELD
    max_total_runs: int | None = _MAX_TOTAL_RUNS_FIELD

    @field_validator("deployments", mode="before")
    @classmethod
    def _parse_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(model.strip() and name.strip() for model, _, name in pairs):
            raise PydanticCustomError(
                "sentence", "should list pairs such as gpt-image-2=ours, separated by commas"
            )
        return {model.strip(): name.strip() for model, _, name in pairs}


def _provider(name: str, url: str) -> Any:
    return Field(default=ProviderSettings(url=url), title=name)


class ModelSettings(BaseModel):
    catalogue: Path | None = Field(
        default=None,
        description="A TOML file that overrides parts of Darkroom's model catalogue: prices, "
        "names, order, hidden models",
    )
    default_models: Names = Field(
        default=(),
        description="The models to use where none is selected and none is inherited, by id or "
        "alias, separated by commas: the first that is available and supports the scene "
        "(default: the first such model of the catalogue, local ones last)",
    )
    default_caption_models: Names = Field(
        default=(),
        description="The caption models to use where none is selected, by id or alias, separated "
        "by commas: the first one that is available (default: the first such model of the "
        "catalogue, local ones last)",
    )
    local_models: bool | None = Field(
        default=None,
        description="Whether the built-in local models can be used (default: on in development, "
        "off in production)",
    )
    fal: ProviderSettings = _provider("fal", "https://queue.fal.run")
    openai: ProviderSettings = _provider("OpenAI", "https://api.openai.com/v1")
    azure: AzureSettings = Field(default=AzureSettings(), title="Azure OpenAI")
    gemini: ProviderSettings = _provider("Gemini", "https://generativelanguage.googleapis.com")
    openrouter: ProviderSettings = _provider("OpenRouter", "https://openrouter.ai/api/v1")
    replicate: ProviderSettings = _provider("Replicate", "https://api.replicate.com/v1")
    wavespeed: ProviderSettings = _provider("Wavespeed", "https://api.wavespeed.ai/api/v3")
