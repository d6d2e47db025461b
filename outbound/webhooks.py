"""Sends webhooks: signed as Standard Webhooks are, one request for each attempt.

What must stay true: only addresses of the public internet are reached, over TLS; in development
those of this machine too, also without TLS. Only the head of a response is read. A viewer does not
learn which names exist in the operator's network: what is said of a name without an address is said
of one with a private address too.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import httpx2
from standardwebhooks.webhooks import Webhook as Signer

from domain.traces import current_trace
from domain.webhooks import MAX_URL_LENGTH, Answer, HeldWebhook, Message
from outbound.guarded import (
    ForbiddenHost,
    NoAddress,
    Resolve,
    find_addresses,
    is_loopback_name,
    is_public,
    send,
    trusted_authorities,
)
from outbound.names import Names
from outbound.retry_after import retry_after_seconds

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NOT_PUBLIC: Final = "The host's address is not public."
_UNREACHABLE: Final = "The host's name has no public address, or could not be resolved."
_UNTRUSTED: Final = "The connection could not be encrypted, or its certificate is not valid."
_WAITING: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
_FAULTS: Final[dict[type[Exception], str]] = {
    NoAddress: _UNREACHABLE,
    ForbiddenHost: _UNREACHABLE,
    TimeoutError: "There was no answer in time.",
    httpx2.TimeoutException: "There was no answer in time.",
    httpx2.ConnectError: "No connection could be made.",
    httpx2.HTTPError: "The connection broke, or the answer was not HTTP.",
    OSError: _UNREACHABLE,
}


class HttpWebhookSender:
    """See `domain.ports.webhooks.WebhookSender`."""

    def __init__(
        self,
        *,
        allows_loopback: bool,
        seconds: float,
        verify: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._allows_loopback = allows_loopback
        self._seconds = seconds
        # Names that are not resolved in time take nothing from those of other webhooks.
        self._resolve = resolve or Names().resolve
        self._resolve_of_failing = resolve or Names().resolve
        # Connections are made to addresses: one that is kept for a host must not serve another.
        self._client = httpx2.AsyncClient(
            verify=verify or trusted_authorities(),
            trust_env=False,
            follow_redirects=False,
            # It ends before the attempt does: a connection whose encryption is cancelled is not
            # closed at once.
            timeout=httpx2.Timeout(seconds, connect=seconds / 3),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            headers={"user-agent": "darkroom", "accept": "*/*", "accept-encoding": "identity"},
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    def find_problem(self, url: str) -> str | None:
        parsed = _parse(url)
        if parsed is None:
            return f"The URL should be a valid https URL of at most {MAX_URL_LENGTH} characters."
        return self._find_fault(parsed)

    async def send(self, held: HeldWebhook, message: Message) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(held, message)
        except (httpx2.HTTPError, NoAddress, ForbiddenHost, OSError) as error:
            fault = next(text for kind, text in _FAULTS.items() if isinstance(error, kind))
            return Answer(error=_UNTRUSTED if _is_about_tls(error) else fault)

    async def _send(self, held: HeldWebhook, message: Message) -> Answer:
        url, body, now = httpx2.URL(held.url), message.body, datetime.now(UTC)
        if self._find_fault(url) is not None:
            raise ForbiddenHost(held.id)  # Allowed where it was made, such as in development.
        resolve = self._resolve_of_failing if held.failing else self._resolve
        response = await send(
            self._client,
            "POST",
            url,
            addresses=await self._find_addresses(url, resolve),
            headers={
                "content-type": "application/json",
                "webhook-id": message.id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Signer(held.secret).sign(message.id, now, body.decode()),
                **_trace_headers(),
            },
            content=body,
        )
        await response.aclose()
        if response.is_success:
            return Answer(response.status_code)
        return Answer(
            response.status_code,
            f"The answer was HTTP {response.status_code}.",
            retry_after_seconds(response.headers),
        )

    def _find_fault(self, url: httpx2.URL) -> str | None:
        """What is wrong with a URL, as far as its text shows it."""
        if url.userinfo or url.fragment:
            return "The URL should have neither credentials nor a fragment."
        if self._is_own_machine(url):
            return None
        if url.scheme != "https":
            return "The URL should begin with https://."
        name = url.host.lower().rstrip(".")
        try:
            return None if is_public(ip_address(name)) else _NOT_PUBLIC
        except ValueError:
            pass
        labels = name.split(".")
        # Resolvers take a number for an IPv4 address. A name without a dot is a host of the local
        # network.
        if len(labels) == 1 or labels[-1] == "localhost" or labels[-1][:1].isdecimal():
            return _NOT_PUBLIC
        if _NAME.fullmatch(url.raw_host.decode().lower().removesuffix(".")) is None:
            return "The URL's host is not a valid name."
        return None

    def _is_own_machine(self, url: httpx2.URL) -> bool:
        return self._allows_loopback and is_loopback_name(url.host)

    async def _find_addresses(self, url: httpx2.URL, resolve: Resolve) -> Sequence[str]:
        own = self._is_own_machine(url)
        return await find_addresses(url, loopback=own, resolve=resolve)


def _trace_headers() -> dict[str, str]:
    trace = current_trace()
    if trace is None:
        return {}
    headers = {"x-request-id": trace.request_id}
    if trace.traceparent is not None:
        headers["traceparent"] = trace.traceparent
    return headers


def _parse(url: str) -> httpx2.URL | None:
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url:
        return None
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return None
    port = parsed.port if parsed.port is not None else 443
    usable = parsed.host and parsed.scheme in {"http", "https"} and 0 < port < 65_536
    return parsed if usable else None


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        # A handshake that only waits for more bytes raises one of these as well.
        if isinstance(error, ssl.SSLError) and not isinstance(error, _WAITING):
            return True
        error = error.__cause__ or error.__context__
    return False
