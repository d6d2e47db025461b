"""Jobs of fal's queue, and their URLs.

What must stay true: the key is sent to the configured queue only, whatever an answer or a stored
job says.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import httpx2

from domain.outputs import ProviderJob
from providers.lenient import id_of

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.~-]{1,200}")
_IN_URL: Final = re.compile(r"/requests/([^/?#]+)/status(?:[?#]|$)")
_LONG_NAMESPACES: Final = frozenset({"workflows", "comfy"})
_MAX_LINK_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FalJob:
    """A job that fal has accepted."""

    endpoint: str
    request_id: str
    status_url: str
    response_url: str
    cancel_url: str

    def to_stored(self) -> ProviderJob:
        """The data that another process needs to resume the job."""
        return asdict(self)


class FalQueue:
    """The URLs of one queue."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._origin = _origin(httpx2.URL(self._url))

    def submit_url(self, endpoint: str) -> str:
        return f"{self._url}/{endpoint}"

    def build_job(self, request_id: object, *, endpoint: str) -> FalJob | None:
        """The job with this id, with URLs built by the rule; None where it cannot be an id."""
        request_id = id_of(request_id)
        if not _REQUEST_ID.fullmatch(request_id):
            return None
        root = f"{self._url}/{_queue_name(endpoint)}/requests/{request_id}"
        return FalJob(
            endpoint=endpoint,
            request_id=request_id,
            status_url=f"{root}/status",
            response_url=root,
            cancel_url=f"{root}/cancel",
        )

    def read_job(self, fields: Mapping[str, object], *, endpoint: str) -> FalJob | None:
        """The job in a response or a stored job; None where there is none.

        Its URLs are used as they are given, since fal's documentation contradicts itself on how
        they are built. A URL that is missing, or leads elsewhere, is built by the rule that fal's
        own clients follow.
        """
        status_url = self._checked(fields.get("status_url"))
        named = _IN_URL.search(status_url or "")
        built = self.build_job(fields.get("request_id"), endpoint=endpoint) or (
            # fal's own clients follow the URLs, whatever the id is.
            self.build_job(named[1], endpoint=endpoint) if named else None
        )
        if built is None:
            return None
        return FalJob(
            endpoint=endpoint,
            request_id=built.request_id,
            status_url=status_url or built.status_url,
            response_url=self._checked(fields.get("response_url")) or built.response_url,
            cancel_url=self._checked(fields.get("cancel_url")) or built.cancel_url,
        )

    def load_job(self, stored: ProviderJob) -> FalJob | None:
        """A stored job. Its URLs are checked again: the settings may name another queue."""
        endpoint = stored.get("endpoint")
        return self.read_job(stored, endpoint=endpoint) if endpoint else None

    def _checked(self, link: object) -> str | None:
        if not isinstance(link, str) or len(link) > _MAX_LINK_LENGTH:
            return None
        try:
            url = httpx2.URL(link)
        except httpx2.InvalidURL:
            return None
        return link if _origin(url) == self._origin and not url.userinfo else None


def _queue_name(endpoint: str) -> str:
    """Owner and alias: a queue serves all paths below them, and its URLs omit those."""
    parts = endpoint.split("/")
    return "/".join(parts[: 3 if parts[0] in _LONG_NAMESPACES else 2])


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
