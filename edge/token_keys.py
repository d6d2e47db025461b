"""The public keys that tokens are verified with: known from the beginning, or fetched."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol

import httpx2
import jwt
import orjson
import structlog

from domain.errors import Overloaded
from settings import may_fetch_keys_from

KEYS_FRESH_SECONDS: Final = 600.0
KEYS_KEPT_SECONDS: Final = 3_600.0
"""How long keys serve while their source is away. Tokens of before have ended by then."""
FETCH_INTERVAL_SECONDS: Final = 60.0
FIRST_FETCH_INTERVAL_SECONDS: Final = 2.0
FETCH_SECONDS: Final = 5.0
KEY_SET_BYTES: Final = 262_144
KEY_SET_LENGTH: Final = 100
RSA_BITS: Final = 2_048

_ALGORITHM_OF_KIND = {
    "EC P-256": "ES256",
    "RSA": "RS256",
    "OKP Ed25519": "EdDSA",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, bound to the one algorithm that it verifies."""

    algorithm: str
    jwk: jwt.PyJWK


class KeySource(Protocol):
    async def key_of(self, kid: str) -> VerifyingKey | None:
        """The key of this name. Raise `Overloaded` where the source cannot be asked."""


class StaticKeys:
    """Keys that are known from the beginning, as a JSON Web Key Set."""

    def __init__(self, key_set: Mapping[str, Any]) -> None:
        self._keys = keys_in(key_set)

    async def key_of(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)


class FetchedKeys:
    """Keys that an issuer publishes at a URL, fetched when first needed and again as they age.

    However many ask, one fetch runs at a time, and an unknown `kid` causes at most one a minute.
    """

    def __init__(
        self,
        url: str,
        http: httpx2.AsyncClient,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not may_fetch_keys_from(url):
            raise ValueError("keys come over https only")
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: dict[str, VerifyingKey] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._fetch: asyncio.Task[None] | None = None

    async def key_of(self, kid: str) -> VerifyingKey | None:
        age = self._age()
        if age is None:
            await self._fetched(at_most_every=FIRST_FETCH_INTERVAL_SECONDS)
        elif kid not in self._keys:
            await self._fetched(at_most_every=FETCH_INTERVAL_SECONDS)
        elif age > KEYS_FRESH_SECONDS:
            # Nobody waits for this one.
            self._begin(at_most_every=FETCH_INTERVAL_SECONDS)
        if self._age() is None:
            raise Overloaded
        return self._keys.get(kid)

    async def aclose(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])

    def _age(self) -> float | None:
        """None where there are no keys, or too old ones."""
        if self._fetched_at is None:
            return None
        age = self._clock() - self._fetched_at
        return age if age <= KEYS_FRESH_SECONDS + KEYS_KEPT_SECONDS else None

    async def _fetched(self, *, at_most_every: float) -> None:
        fetch = self._begin(at_most_every=at_most_every)
        if fetch is not None:
            # One who stops waiting does not end it for the others.
            await asyncio.wait([fetch])

    def _begin(self, *, at_most_every: float) -> asyncio.Task[None] | None:
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        if self._asked_at is not None and self._clock() - self._asked_at < at_most_every:
            return None
        self._asked_at = self._clock()
        self._fetch = asyncio.create_task(self._refresh(), name="fetch of token keys")
        return self._fetch

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = keys_in(orjson.loads(await self._get()))
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TimeoutError) as error:
            log.warning("token keys not fetched", reason=type(error).__name__)
            return
        if not keys:
            log.warning("token keys not fetched", reason="none that can be used")
            return
        self._keys = keys
        self._fetched_at = self._clock()

    async def _get(self) -> bytes:
        body = bytearray()
        async with self._http.stream(
            "GET",
            self._url,
            headers={
                "accept": "application/jwk-set+json, application/json",
                "accept-encoding": "identity",
            },
            follow_redirects=False,
            timeout=FETCH_SECONDS,
        ) as response:
            if response.status_code != httpx2.codes.OK:
                raise ValueError("the answer is not 200")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > KEY_SET_BYTES:
                    raise ValueError("the key set is too large")
        return bytes(body)


def keys_in(key_set: object) -> dict[str, VerifyingKey]:
    """The keys of a JSON Web Key Set by `kid`; those that cannot be used are passed over."""
    listed = key_set.get("keys") if isinstance(key_set, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("not a key set")
    keys: dict[str, VerifyingKey] = {}
    for jwk in listed[:KEY_SET_LENGTH]:
        key = _verifying_key(jwk)
        if key is not None:
            keys.setdefault(jwk["kid"], key)
    return keys


def _verifying_key(jwk: object) -> VerifyingKey | None:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
        return None
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    if "verify" not in operations:
        return None
    if "d" in jwk:
        return None  # a private key that is published is nobody's any more
    algorithm = _ALGORITHM_OF_KIND.get(f"{jwk.get('kty')} {jwk.get('crv', '')}".strip())
    if algorithm is None or jwk.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if algorithm == "RS256" and key.key.key_size < RSA_BITS:
        return None
    return VerifyingKey(algorithm, key)
