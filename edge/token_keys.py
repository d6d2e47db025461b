"""The public keys that verify tokens: given by the settings, or fetched from the issuer.

The URL of an issuer's keys is in its metadata (OpenID Connect Discovery), or in the settings.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
KEYS_STALE_SECONDS: Final = 3_600.0
"""How long fetched keys remain in use while the issuer cannot be reached."""
FETCH_INTERVAL_SECONDS: Final = 60.0
FIRST_FETCH_INTERVAL_SECONDS: Final = 2.0
FETCH_SECONDS: Final = 5.0
ANSWER_BYTES: Final = 262_144
KEY_SET_LENGTH: Final = 100
RSA_BITS: Final = 2_048

METADATA_PATH: Final = "/.well-known/openid-configuration"

ALGORITHMS_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA", "Ed25519"),
}
"""The algorithms that a key of this `kty` and `crv` can verify. No symmetric one is among them."""
_SAME_AS: Final = {"Ed25519": "EdDSA"}
"""The second name that RFC 9864 gives to the only signature of this curve; PyJWT does not know it.
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and the algorithms that it verifies: one, if the issuer names one."""

    algorithms: tuple[str, ...]
    jwk: Mapping[str, Any]

    def for_algorithm(self, algorithm: str) -> jwt.PyJWK:
        key = jwt.PyJWK(dict(self.jwk), _SAME_AS.get(algorithm, algorithm))
        key.algorithm_name = algorithm
        return key


class KeySource(Protocol):
    async def load_keys(self, kid: str | None) -> Sequence[VerifyingKey]:
        """The keys of this name: usually one, but keys of different kinds may share it. For None,
        all keys. Raise `Overloaded` where the issuer cannot be asked.
        """


class StaticKeys:
    """Keys that the settings give, as a JSON Web Key Set."""

    def __init__(self, key_set: Mapping[str, Any]) -> None:
        self._keys = keys_in(key_set)

    async def load_keys(self, kid: str | None) -> Sequence[VerifyingKey]:
        return self._keys.get(kid, ())


class KeysNotUsable(ValueError):
    """The issuer has answered with something else than its keys. The message is for the log."""


class FetchedKeys:
    """Keys that an issuer publishes, fetched when they are first needed, and again as they age.

    One fetch runs at a time, however many tokens wait for it, and an unknown `kid` causes at most
    one fetch a minute.
    """

    def __init__(
        self,
        url: str | None,
        http: httpx2.AsyncClient,
        *,
        issuer: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`url` is that of the key set; None where the metadata of the `issuer` names it."""
        if not may_fetch_keys_from(issuer if url is None else url):
            raise ValueError("keys can be fetched over https only")
        self._url = url
        self._issuer = issuer
        self._http = http
        self._clock = clock
        self._keys: Mapping[str | None, Sequence[VerifyingKey]] = {}
        self._fetched_at: float | None = None
        self._fetch_started_at: float | None = None
        self._fetch: asyncio.Task[None] | None = None

    async def load_keys(self, kid: str | None) -> Sequence[VerifyingKey]:
        age = self._age()
        if age is None:
            await self._wait_for_fetch(at_most_every=FIRST_FETCH_INTERVAL_SECONDS)
        elif kid not in self._keys:
            await self._wait_for_fetch(at_most_every=FETCH_INTERVAL_SECONDS)
        elif age > KEYS_FRESH_SECONDS:
            # No request waits for this fetch.
            self._begin(at_most_every=FETCH_INTERVAL_SECONDS)
        if self._age() is None:
            raise Overloaded
        return self._keys.get(kid, ())

    async def aclose(self) -> None:
        """Cancel a fetch that is running."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])

    def _age(self) -> float | None:
        """The age of the fetched keys in seconds; None if there are none, or they are too old."""
        if self._fetched_at is None:
            return None
        age = self._clock() - self._fetched_at
        return age if age <= KEYS_FRESH_SECONDS + KEYS_STALE_SECONDS else None

    async def _wait_for_fetch(self, *, at_most_every: float) -> None:
        fetch = self._begin(at_most_every=at_most_every)
        if fetch is not None:
            # A caller that is cancelled does not cancel the fetch for the others.
            await asyncio.wait([fetch])

    def _begin(self, *, at_most_every: float) -> asyncio.Task[None] | None:
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        if (
            self._fetch_started_at is not None
            and self._clock() - self._fetch_started_at < at_most_every
        ):
            return None
        self._fetch_started_at = self._clock()
        self._fetch = asyncio.create_task(self._refresh(), name="fetch of token keys")
        return self._fetch

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = keys_in(await self._get(self._url or await self._discover_url()))
            if not keys:
                raise KeysNotUsable("none that can be used")
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TimeoutError) as error:
            reason = str(error) if isinstance(error, KeysNotUsable) else type(error).__name__
            log.warning("token keys not fetched", reason=reason)
            return
        self._keys = keys
        self._fetched_at = self._clock()

    async def _discover_url(self) -> str:
        """Read the URL of the keys from the issuer's metadata, and check that it is the expected
        issuer's.
        """
        metadata = await self._get(self._issuer.rstrip("/") + METADATA_PATH)
        if not isinstance(metadata, dict) or metadata.get("issuer") != self._issuer:
            raise KeysNotUsable("the metadata is of another issuer")
        url = metadata.get("jwks_uri")
        if not isinstance(url, str) or not may_fetch_keys_from(url):
            raise KeysNotUsable("the metadata names no https URL of keys")
        return url

    async def _get(self, url: str) -> object:
        body = bytearray()
        async with self._http.stream(
            "GET",
            url,
            headers={
                "accept": "application/jwk-set+json, application/json",
                "accept-encoding": "identity",
            },
            follow_redirects=False,
            timeout=FETCH_SECONDS,
        ) as response:
            if response.status_code != httpx2.codes.OK:
                raise KeysNotUsable(f"answered with status {response.status_code}")
            # What is packed twice may unpack to gigabytes before its first byte is there.
            encodings = response.headers.get_list("content-encoding", split_commas=True)
            if len([one for one in encodings if one.strip().lower() != "identity"]) > 1:
                raise KeysNotUsable("the answer is packed more than once")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    raise KeysNotUsable("the answer is too large")
        answer: object = orjson.loads(body)
        return answer


def keys_in(key_set: object) -> Mapping[str | None, Sequence[VerifyingKey]]:
    """The keys of a JSON Web Key Set by `kid`, and all of them under None; unusable ones are
    skipped.
    """
    listed = key_set.get("keys") if isinstance(key_set, Mapping) else None
    if not isinstance(listed, list):
        raise KeysNotUsable("not a key set")
    keys: dict[str | None, list[VerifyingKey]] = {}
    for jwk in listed[:KEY_SET_LENGTH]:
        key = _verifying_key(jwk)
        if key is not None:
            for kid in {key.jwk.get("kid"), None}:
                keys.setdefault(kid, []).append(key)
    return keys


def _verifying_key(jwk: object) -> VerifyingKey | None:
    if not isinstance(jwk, dict):
        return None
    jwk = {name: value for name, value in jwk.items() if value is not None}
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(jwk.get("kid", ""), str) or jwk.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if "d" in jwk:
        return None  # Anyone can sign with a private key that has been published.
    algorithms = ALGORITHMS_OF_KIND.get(f"{jwk.get('kty')} {jwk.get('crv', '')}".strip(), ())
    named = jwk.get("alg")
    # An Ed25519 key has one algorithm with two names, and either of them names both.
    if named is not None and not (named in algorithms and "Ed25519" in algorithms):
        algorithms = tuple(algorithm for algorithm in algorithms if algorithm == named)
    if not algorithms:
        return None
    key = VerifyingKey(algorithms, jwk)
    try:
        public = key.for_algorithm(algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if jwk["kty"] == "RSA" and public.key_size < RSA_BITS:
        return None
    return key
