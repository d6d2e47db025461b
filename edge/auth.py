"""Verifies bearer tokens, and finds the viewer that each one names.

Only signatures by a public key of the issuer count. A token's `kid` names its key; a token without
one is verified where the issuer has a single key for its algorithm. The key's type and the settings
decide which algorithms it verifies. Tokens are not logged, and are kept
by their digest only.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import time
from typing import Any, Final

import jwt

from domain.errors import Unauthenticated
from domain.ids import viewer_id_of
from domain.viewers import Viewer
from edge.token_keys import KeySource, VerifyingKey
from settings import DEFAULT_TOKEN_ALGORITHMS, NO_AUTHORIZED_PARTY

TOKEN_BYTES: Final = 8_192
SUBJECT_LENGTH: Final = 255
LEEWAY: Final = timedelta(seconds=30)
"""Leeway for clocks that differ: a token is accepted for this long after its end, on every
transport.
"""
MAX_LIFETIME: Final = timedelta(hours=24)
REMEMBERED_TOKENS: Final = 2_048

_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_YEAR_10_000: Final = 253_402_300_800
"""In seconds since 1970: the latest time that a `datetime` can hold."""
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates. No name has them, and UTF-8 cannot encode the latter."""
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not valid yet"),
    (jwt.InvalidIssuerError, "of another issuer"),
    (jwt.InvalidAudienceError, "for another audience"),
    (jwt.MissingRequiredClaimError, "a claim is missing"),
)


class TokenRefused(Unauthenticated):
    """A token, or an `Authorization` header, that is not accepted. `reason` is a constant phrase
    for the log; clients are not shown it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def parse_authorization(header: str | None) -> str | None:
    """The token of an `Authorization` header, None without one.

    Raise `TokenRefused` for a header that is there, but is no bearer token.
    """
    if header is None:
        return None
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or len(token) > TOKEN_BYTES or not _B64TOKEN.fullmatch(token):
        raise TokenRefused("no bearer token")
    return token


class Authenticator:
    """Finds the viewer of a token, and remembers it: asking again about the same token is cheap.

    A token must name one of the `audience` in `aud`, and one of the `authorized_parties` in `azp`,
    or without it in `client_id`. Without an audience, a token that has an `aud` is refused: it was
    made for another service. Without parties, neither is checked; `NO_AUTHORIZED_PARTY` among them
    stands for a token without `azp`.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str | Collection[str] | None,
        authorized_parties: Collection[str] = (),
        algorithms: Collection[str] = DEFAULT_TOKEN_ALGORITHMS,
        max_lifetime: timedelta = MAX_LIFETIME,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience or None
        self._authorized_parties = frozenset(authorized_parties)
        self._algorithms = frozenset(algorithms)
        self._max_lifetime = max_lifetime
        self._known: dict[bytes, _Verified] = {}

    async def authenticate(self, token: str) -> Viewer:
        """The viewer of a token, until `valid_until`. Raise `TokenRefused`, or `Overloaded` where
        the issuer's keys cannot be fetched.
        """
        if len(token) > TOKEN_BYTES:
            raise TokenRefused("too long")
        digest = sha256(token.encode(errors="replace")).digest()
        verified = self._known.get(digest)
        # The key may have been withdrawn or renewed since it verified the token.
        if verified is None or verified.key not in await self._keys.load_keys(verified.kid):
            verified = await self._verify(token)
            self._remember(digest, verified)
        if verified.ends_at <= time():
            raise TokenRefused("expired")
        return verified.viewer

    async def _verify(self, token: str) -> "_Verified":
        kid, algorithm = self._header_of(token)
        key, claims = self._decode(token, algorithm, await self._find_keys(kid, algorithm))
        self._check_party(claims)
        expires = self._find_end(claims)
        viewer = Viewer(
            id=viewer_id_of(self._issuer, _subject_of(claims)),
            expires_at=datetime.fromtimestamp(expires, UTC),
            valid_until=datetime.fromtimestamp(expires, UTC) + LEEWAY,
        )
        return _Verified(viewer, kid, key, ends_at=expires + LEEWAY.total_seconds())

    async def _find_keys(self, kid: str | None, algorithm: str) -> Sequence[VerifyingKey]:
        """The keys that may have signed the token; there is at least one."""
        found = await self._keys.load_keys(kid)
        if not found:
            raise TokenRefused("unknown key")
        fitting = [key for key in found if algorithm in key.algorithms]
        if not fitting:
            raise TokenRefused("algorithm of another kind of key")
        # OpenID Connect Core, 10.1: where there are several, the token must say which one it is.
        if kid is None and len(fitting) > 1:
            raise TokenRefused("no key id")
        return fitting

    def _decode(
        self, token: str, algorithm: str, keys: Sequence[VerifyingKey]
    ) -> tuple[VerifyingKey, Mapping[str, Any]]:
        """The key whose signature it is, and the claims."""
        for key in keys:
            try:
                return key, jwt.decode(
                    token,
                    key.for_algorithm(algorithm),
                    algorithms=[algorithm],
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY,
                    options={"require": ["iss", "sub", "exp"]},
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise TokenRefused(_reason_of(error)) from error
        raise TokenRefused("bad signature")

    def _header_of(self, token: str) -> tuple[str | None, str]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefused("malformed header") from error
        kid, algorithm = header.get("kid"), header.get("alg")
        # `crit` names extensions that must be understood, and none is.
        if "crit" in header:
            raise TokenRefused("unknown critical extension")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenRefused("algorithm not accepted")
        return kid, algorithm

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        if not self._authorized_parties:
            return
        party = claims.get("azp")
        if party is None:
            # Where there is no `azp`, RFC 9068 and Cognito name the client by `client_id`.
            client = claims.get("client_id")
            accepted = NO_AUTHORIZED_PARTY in self._authorized_parties or self._is_party(client)
        else:
            accepted = self._is_party(party)
        if not accepted:
            raise TokenRefused("of another authorized party")

    def _is_party(self, name: object) -> bool:
        return (
            isinstance(name, str)
            and name != NO_AUTHORIZED_PARTY
            and name in self._authorized_parties
        )

    def _find_end(self, claims: Mapping[str, Any]) -> float:
        """When the token ends, in seconds since 1970. Where the issuer leaves out `iat`, the
        remaining life of the token is measured instead of its whole life.
        """
        issued, expires = claims.get("iat", time()), claims["exp"]
        if not _is_time(issued) or not _is_time(expires):
            raise TokenRefused("a time is not a number, or out of range")
        if expires - issued > (self._max_lifetime + LEEWAY).total_seconds():
            raise TokenRefused("lives too long")
        return float(expires)

    def _remember(self, digest: bytes, verified: "_Verified") -> None:
        if len(self._known) >= REMEMBERED_TOKENS:
            del self._known[next(iter(self._known))]
        self._known[digest] = verified


@dataclass(frozen=True, slots=True)
class _Verified:
    viewer: Viewer
    kid: str | None
    key: VerifyingKey
    ends_at: float


def is_subject(value: object) -> bool:
    """Whether this can be a subject. Other values are refused and not repaired: a repair could make
    one subject of two.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= SUBJECT_LENGTH
        and _NO_TEXT.search(value) is None
    )


def _subject_of(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if not is_subject(subject):
        raise TokenRefused("the subject is not a text of 1 to 255 characters")
    return str(subject)


def _reason_of(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")


def _is_time(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _YEAR_10_000
    )
