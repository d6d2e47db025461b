"""Jobs of fal's queue, and where they are asked about.

What must stay true: the key is sent to the configured queue and to nobody else, whatever an answer
or a stored job says.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import httpx2

from domain.outputs import ProviderJob

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.~-]{1,200}")
_LONG_NAMESPACES: Final = frozenset({"workflows", "comfy"})
_MAX_LINK_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FalJob:
    """A job that fal has taken."""

    endpoint: str
    request_id: str
    status_url: str
    response_url: str
    cancel_url: str

    def saved(self) -> ProviderJob:
        """What another process needs to go on with it."""
        return asdict(self)


class FalQueue:
    """The addresses of one queue."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._origin = _origin(httpx2.URL(self._url))

    def submit_url(self, endpoint: str) -> str:
        return f"{self._url}/{endpoint}"

    def job_called(self, request_id: object, *, endpoint: str) -> FalJob | None:
        """The job of this id, where its addresses are not told; None where it can be no id."""
        if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
            return None
        root = f"{self._url}/{_queue_name(endpoint)}/requests/{request_id}"
        return FalJob(
            endpoint=endpoint,
            request_id=request_id,
            status_url=f"{root}/status",
            response_url=root,
            cancel_url=f"{root}/cancel",
        )

    def job_in(self, fields: Mapping[str, object], *, endpoint: str) -> FalJob | None:
        """The job that an answer, or a stored job, tells of; None where it tells of none.

        Its addresses are followed as they are told, since fal's texts do not agree on how they are
        built. One that is missing, or leads to somebody else, is built by the rule that fal's own
        clients follow.
        """
        built = self.job_called(fields.get("request_id"), endpoint=endpoint)
        if built is None:
            return None
        return FalJob(
            endpoint=endpoint,
            request_id=built.request_id,
            status_url=self._own(fields.get("status_url")) or built.status_url,
            response_url=self._own(fields.get("response_url")) or built.response_url,
            cancel_url=self._own(fields.get("cancel_url")) or built.cancel_url,
        )

    def job_of(self, saved: ProviderJob) -> FalJob | None:
        """A stored job. Its addresses are looked at again: the queue may be another one by now."""
        endpoint = saved.get("endpoint")
        return self.job_in(saved, endpoint=endpoint) if endpoint else None

    def _own(self, link: object) -> str | None:
        if not isinstance(link, str) or len(link) > _MAX_LINK_LENGTH:
            return None
        try:
            url = httpx2.URL(link)
        except httpx2.InvalidURL:
            return None
        return link if _origin(url) == self._origin and not url.userinfo else None


def _queue_name(endpoint: str) -> str:
    """Owner and alias: a queue serves all paths below them, and they are left out."""
    parts = endpoint.split("/")
    return "/".join(parts[: 3 if parts[0] in _LONG_NAMESPACES else 2])


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
