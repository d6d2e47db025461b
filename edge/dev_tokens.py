"""The development issuer: tokens for this machine only, signed with a private key."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from edge.auth import SUBJECT_LENGTH, Authenticator, is_subject
from edge.token_keys import StaticKeys
from settings import SettingsError, load_or_create_secret

ISSUER: Final = "urn:darkroom:development"
AUDIENCE: Final = "darkroom"
TOKEN_LIFE: Final = timedelta(hours=12)
"""The life of a token: a working day."""
_ALGORITHM: Final = "EdDSA"


class DevelopmentIssuer:
    """Issues tokens with a key that it keeps in the data folder, readable by the owner only."""

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / "issuer-key.pem"
        try:
            key = load_pem_private_key(load_or_create_secret(path, _new_key), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SettingsError([f"{path} is not a private key: delete it."]) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SettingsError([f"{path} is not an Ed25519 key: delete it."])
        self._key = key

    def token(self, viewer_name: str, *, life: timedelta = TOKEN_LIFE) -> str:
        """A token whose `sub` is the name: the same name is always the same viewer."""
        if not is_subject(viewer_name):
            raise ValueError(f"a viewer's name has 1 to {SUBJECT_LENGTH} characters, all printable")
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": viewer_name,
            "iat": now,
            "exp": now + life,
        }
        headers = {"kid": self._public_key["kid"]}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=headers)

    def public_keys(self) -> dict[str, Any]:
        """What the tokens are verified with, as a JSON Web Key Set."""
        return {"keys": [self._public_key]}

    def authenticator(self) -> Authenticator:
        """Accepts the tokens of this issuer, and no others."""
        return Authenticator(
            StaticKeys(self.public_keys()),
            issuer=ISSUER,
            audience=AUDIENCE,
            max_lifetime=TOKEN_LIFE,
        )

    @cached_property
    def _public_key(self) -> dict[str, Any]:
        x = _base64url(self._key.public_key().public_bytes_raw())
        required = {"crv": "Ed25519", "kty": "OKP", "x": x}
        # RFC 7638: the name of a key is a digest of its members.
        kid = _base64url(sha256(orjson.dumps(required, option=orjson.OPT_SORT_KEYS)).digest())
        return {**required, "kid": kid, "alg": _ALGORITHM, "use": "sig"}


def _new_key() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
