"""Two doors to OpenAI's models: OpenAI's own, and Azure's.

What is asked there, and how it is answered, is the same. Addresses, the key's header, a model's
name and the files that are taken are not.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import quote

_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_PNG_AND_JPEG: Final = frozenset({"image/png", "image/jpeg"})


class Verb(StrEnum):
    GENERATE = "generations"
    EDIT = "edits"


class Door(Protocol):
    """Where models are asked, and as whom."""

    @property
    def provider(self) -> str:
        """Its name in the catalogue."""

    @property
    def key(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """What lets a request in."""

    @property
    def reference_types(self) -> frozenset[str]:
        """Content types of the files that an edit may have."""

    def url(self, verb: Verb, model: str, /) -> str: ...

    def model_name(self, model: str) -> str:
        """What OpenAI's `model` is called here."""


class OpenAIBackend:
    """OpenAI itself. `url` ends in its version, such as `/v1`."""

    provider: Final = "openai"
    reference_types: Final = _PNG_AND_JPEG | {"image/webp"}

    def __init__(self, *, key: str, url: str) -> None:
        self.key: Final = key
        self.headers: Final = {"authorization": f"Bearer {key}"}
        self._url = url.rstrip("/")

    def url(self, verb: Verb, _model: str, /) -> str:
        return f"{self._url}/images/{verb}"

    def model_name(self, model: str) -> str:
        return model


class AzureBackend:
    """A resource of Azure's. `url` is its origin, such as `https://name.openai.azure.com`.

    A dated `api_version` has addresses of its own, with the deployment in them. Any other goes to
    the `v1` addresses: `preview`, or none at all.
    """

    provider: Final = "azure"
    reference_types: Final = _PNG_AND_JPEG

    def __init__(
        self, *, key: str, url: str, api_version: str, deployments: Mapping[str, str]
    ) -> None:
        self.key: Final = key
        self.headers: Final = {"api-key": key}
        self._root = f"{url.rstrip('/')}/openai"
        self._is_dated = _DATED.fullmatch(api_version) is not None
        self._query = f"?api-version={quote(api_version, safe='')}" if api_version else ""
        self._deployments = deployments

    def url(self, verb: Verb, model: str, /) -> str:
        name = quote(self.model_name(model), safe="")
        place = f"deployments/{name}" if self._is_dated else "v1"
        return f"{self._root}/{place}/images/{verb}{self._query}"

    def model_name(self, model: str) -> str:
        """Its deployment, which is called as the model is where nobody has said otherwise."""
        return self._deployments.get(model, model)
