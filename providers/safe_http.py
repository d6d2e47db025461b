"""Fetches results: the only way to a link that a provider's answer names.

An answer could make Darkroom send requests anywhere. What must stay true: only listed hosts are
asked, over TLS; a name is resolved once, and only the checked address is connected to; addresses
that are not public are never connected to; no key is sent. A simulator is the one exception: where
a provider's base URL is plain HTTP on loopback, results may come from that origin as well.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Self

import httpx2

from domain.errors import GenerationErrorCode, GenerationFailed
from outbound.guarded import (
    ForbiddenHost,
    NoAddress,
    Resolve,
    find_addresses,
    is_loopback_name,
    send,
)
from outbound.names import Names
from providers.base64 import Base64Decoder
from providers.http import MAX_BYTES, AnswerUnusable, open_client, quote, read_body

MAX_REDIRECTS: Final = 3
DOWNLOAD_SECONDS: Final = 60.0
AT_ONCE: Final = 4
"""Downloads at the same time: it bounds the memory that they take together."""

_MAX_LINK_LENGTH: Final = 4096
_MAX_DATA_HEADER_LENGTH: Final = 200
_NAME: Final = re.compile(r"[a-z0-9.-]+")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({403, 404, 408, 425, 429})
"""404 too: a result may not have reached each copy of a network yet. Stores that do not list their
objects answer 403 then.
"""


class DownloadBroke(GenerationFailed):
    """The link is valid, but the bytes did not arrive: fetching it again may help."""

    def __init__(self, detail: str) -> None:
        super().__init__(GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=True, detail=detail)


@dataclass(frozen=True, slots=True)
class Sources:
    """The hosts that a provider's results may come from."""

    hosts: frozenset[str]
    """Names; one that begins with a dot stands for all names that end with it."""
    simulator: tuple[str, int] | None = None
    """Host and port of a simulator, the only one that may be asked without TLS."""

    @classmethod
    def of(cls, *hosts: str, base_url: str) -> Self:
        base = httpx2.URL(base_url)
        played = base.scheme == "http" and is_loopback_name(base.host)
        return cls(frozenset(hosts), (base.host, base.port or 80) if played else None)

    def allow(self, url: httpx2.URL) -> bool:
        if url.userinfo:
            return False
        if self.is_simulator(url):
            return True
        listed = any(
            url.host.endswith(host) if host.startswith(".") else url.host == host
            for host in self.hosts
        )
        plain = _NAME.fullmatch(url.host) is not None
        return url.scheme == "https" and url.port in (None, 443) and listed and plain

    def is_simulator(self, url: httpx2.URL) -> bool:
        return url.scheme == "http" and (url.host, url.port or 80) == self.simulator


class Downloader:
    """Fetches the results of one provider."""

    def __init__(
        self,
        sources: Sources,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = DOWNLOAD_SECONDS,
        resolve: Resolve | None = None,
    ) -> None:
        self._sources = sources
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._resolve = resolve or Names().resolve
        # Connections are made to addresses: one that is kept for a host must not serve another.
        self._client = open_client(reuse=False)
        self._downloads = asyncio.Semaphore(AT_ONCE)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def fetch(self, link: str) -> bytes:
        """The bytes behind a link, or inside of a `data:` URL.

        Raise `DownloadBroke` where trying again may help, and `GenerationFailed` with
        PROVIDER_BAD_RESPONSE where the link or what it leads to is not acceptable.
        """
        if link[:5].lower() == "data:":
            return _data_of(link, max_bytes=self._max_bytes)
        async with self._downloads:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._fetch(link)
            except (httpx2.TransportError, TimeoutError, OSError) as error:
                raise DownloadBroke(f"result not fetched: {type(error).__name__}") from error
            except (AnswerUnusable, httpx2.DecodingError) as error:
                raise _refusal(f"result: {type(error).__name__} {error}") from error

    async def _fetch(self, link: str) -> bytes:
        url = self._checked(link)
        addresses = await self._resolve_addresses(url)
        redirects = 0
        while True:
            response = await send(self._client, "GET", url, addresses=addresses)
            try:
                if response.status_code not in _REDIRECTS:
                    return await self._read_body(response)
                url = self._redirected(url, response.headers.get("location", ""))
            finally:
                await response.aclose()
            redirects += 1
            if redirects > MAX_REDIRECTS:
                _refuse("result link: too many redirects")

    def _checked(self, link: str) -> httpx2.URL:
        try:
            url = httpx2.URL(link) if len(link) <= _MAX_LINK_LENGTH else None
        except httpx2.InvalidURL:
            url = None
        if url is None or not self._sources.allow(url):
            _refuse(f"result link to {url.scheme} {url.host}" if url else "no result link")
        return url

    def _redirected(self, url: httpx2.URL, location: str) -> httpx2.URL:
        try:
            target = url.join(location)
        except httpx2.InvalidURL:
            _refuse("result link: redirect to nowhere")
        if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
            _refuse(f"result link: redirect to {target.scheme} {target.host}")
        return self._checked(str(target))

    async def _resolve_addresses(self, url: httpx2.URL) -> Sequence[str]:
        """The addresses of the host's name, all of them acceptable."""
        try:
            return await find_addresses(
                url, loopback=self._sources.is_simulator(url), resolve=self._resolve
            )
        except NoAddress as error:
            raise DownloadBroke(f"result link: {error}") from error
        except ForbiddenHost as error:
            raise _refusal(f"result link: {error}") from error

    async def _read_body(self, response: httpx2.Response) -> bytes:
        status = response.status_code
        if status in _TRANSIENT or status >= 500:
            raise DownloadBroke(f"result not fetched: HTTP {status}")
        if status != httpx2.codes.OK:
            _refuse(f"result: HTTP {status}")
        data = await read_body(response, max_bytes=self._max_bytes)
        if not data:
            _refuse("result: empty")
        return data


def _data_of(link: str, *, max_bytes: int) -> bytes:
    header, comma, text = link.partition(",")
    if not comma or len(header) > _MAX_DATA_HEADER_LENGTH or not header.lower().endswith(";base64"):
        _refuse("result: a data link that is not base64")
    decoder = Base64Decoder(max_bytes=max_bytes)
    try:
        decoder.feed(text.encode("ascii", "replace"))
        data = decoder.finish()
    except AnswerUnusable as error:
        raise _refusal(f"result: a data link of {error}") from error
    if not data:
        _refuse("result: a data link that is not base64")
    return data


def _refuse(detail: str) -> NoReturn:
    raise _refusal(detail)


def _refusal(detail: str) -> GenerationFailed:
    return GenerationFailed(
        GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=False, detail=quote(detail)
    )
