"""The two backends of OpenAI's models: OpenAI itself, and Azure.

Requests and responses are the same. URLs, the header with the key, a model's name and the accepted
files differ.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import quote

from providers.safe_http import Sources

_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_AZURE_STORAGE: Final = ".blob.core.windows.net"
"""The hosts where both have stored images, each in accounts of changing names."""
_PNG_AND_JPEG: Final = frozenset({"image/png", "image/jpeg"})


class Verb(StrEnum):
    GENERATE = "images/generations"
    EDIT = "images/edits"
    WRITE = "chat/completions"


class Backend(Protocol):
    """Where models are called, and with which key."""

    @property
    def provider(self) -> str:
        """Its name in the catalogue."""

    @property
    def key(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers with the key."""

    @property
    def reference_types(self) -> frozenset[str]:
        """The content types of files for an edit."""

    @property
    def sources(self) -> Sources:
        """The hosts that images may be fetched from, if an answer has links."""

    def url(self, verb: Verb, model: str, /) -> str: ...

    def model_name(self, model: str) -> str:
        """The name of OpenAI's `model` at this backend."""


class OpenAIBackend:
    """OpenAI itself. `url` ends with its version, such as `/v1`."""

    provider: Final = "openai"
    reference_types: Final = _PNG_AND_JPEG | {"image/webp"}

    def __init__(self, *, key: str, url: str) -> None:
        self.key: Final = key
        self.headers: Final = {"authorization": f"Bearer {key}"}
        self.sources: Final = Sources.of(".oaiusercontent.com", _AZURE_STORAGE, base_url=url)
        self._url = url.rstrip("/")

    def url(self, verb: Verb, _model: str, /) -> str:
        return f"{self._url}/{verb}"

    def model_name(self, model: str) -> str:
        return model


class AzureBackend:
    """An Azure resource. `url` is its origin, such as `https://name.openai.azure.com`.

    A dated `api_version` has URLs of its own, which contain the deployment. Any other one uses the
    `v1` URLs: `preview`, or none at all.
    """

    provider: Final = "azure"
    reference_types: Final = _PNG_AND_JPEG

    def __init__(
        self, *, key: str, url: str, api_version: str, deployments: Mapping[str, str]
    ) -> None:
        self.key: Final = key
        self.headers: Final = {"api-key": key}
        self.sources: Final = Sources.of(_AZURE_STORAGE, base_url=url)
        self._root = f"{url.rstrip('/')}/openai"
        self._is_dated = _DATED.fullmatch(api_version) is not None
        self._query = f"?api-version={quote(api_version, safe='')}" if api_version else ""
        self._deployments = deployments

    def url(self, verb: Verb, model: str, /) -> str:
        name = quote(self.model_name(model), safe="")
        below = f"deployments/{name}" if self._is_dated else "v1"
        return f"{self._root}/{below}/{verb}{self._query}"

    def model_name(self, model: str) -> str:
        """The deployment of a model, which has the model's name unless the settings
        name another.
        """
        return self._deployments.get(model, model)
