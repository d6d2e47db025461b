"""A bearer token's viewer.

Only signatures by a public key count: which key follows from the token's `kid`, and which algorithm
from the key, never from the token. Tokens are not logged, and are kept by their digest only.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import time
from typing import Final

import jwt

from domain.errors import Unauthenticated
from domain.ids import viewer_id_of
from domain.viewers import Viewer
from edge.token_keys import KeySource, VerifyingKey

ALGORITHMS: Final = ("ES256", "RS256", "EdDSA")
TOKEN_BYTES: Final = 8_192
SUBJECT_LENGTH: Final = 255
LEEWAY: Final = timedelta(seconds=30)
LONGEST_LIFE: Final = timedelta(hours=1)
REMEMBERED_TOKENS: Final = 2_048

_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def parse_authorization(header: str | None) -> str | None:
    """The token of an `Authorization` header, None without one.

    Raise `Unauthenticated` for a header that is there, but is no bearer token.
    """
    if header is None:
        return None
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or len(token) > TOKEN_BYTES or not _B64TOKEN.fullmatch(token):
        raise Unauthenticated
    return token


class Authenticator:
    """Tells whose a token is. Asking again about the same token is cheap."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        longest_life: timedelta = LONGEST_LIFE,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._longest_life = longest_life
        self._known: dict[bytes, _Verified] = {}

    async def authenticate(self, token: str) -> Viewer:
        """The viewer that the token vouches for, until `expires_at`. Otherwise `Unauthenticated`.

        A clock may be wrong by `LEEWAY`: a token is taken that much beyond its end.
        """
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated
        digest = sha256(token.encode(errors="replace")).digest()
        verified = self._known.get(digest)
        # The key may have been withdrawn or renewed since.
        if verified is None or await self._keys.key_of(verified.kid) is not verified.key:
            verified = await self._verify(token)
            self._remember(digest, verified)
        if verified.ends_at <= time():
            raise Unauthenticated
        return verified.viewer

    async def _verify(self, token: str) -> "_Verified":
        kid, algorithm = _header_of(token)
        key = await self._keys.key_of(kid)
        if key is None or key.algorithm != algorithm:
            raise Unauthenticated
        try:
            claims = jwt.decode(
                token,
                key.jwk,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "sub", "iat", "exp"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated from error
        subject, issued, expires = claims["sub"], claims["iat"], claims["exp"]
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LENGTH:
            raise Unauthenticated
        if not _is_number(issued) or not _is_number(expires):
            raise Unauthenticated
        if expires - issued > (self._longest_life + LEEWAY).total_seconds():
            raise Unauthenticated
        viewer = Viewer(
            id=viewer_id_of(self._issuer, subject),
            expires_at=datetime.fromtimestamp(expires, UTC),
        )
        return _Verified(viewer, kid, key, ends_at=expires + LEEWAY.total_seconds())

    def _remember(self, digest: bytes, verified: "_Verified") -> None:
        if len(self._known) >= REMEMBERED_TOKENS:
            del self._known[next(iter(self._known))]
        self._known[digest] = verified


@dataclass(frozen=True, slots=True)
class _Verified:
    viewer: Viewer
    kid: str
    key: VerifyingKey
    ends_at: float


def _header_of(token: str) -> tuple[str, str]:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Unauthenticated from error
    kid, algorithm = header.get("kid"), header.get("alg")
    # `crit` names extensions that must be understood, and none is.
    if not isinstance(kid, str) or algorithm not in ALGORITHMS or "crit" in header:
        raise Unauthenticated
    return kid, algorithm


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
