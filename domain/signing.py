"""Signed tokens: opaque text that only this deployment can have made, and nobody can alter."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from hashlib import sha256
from typing import Final

_TAG_BYTES: Final = 16


class Signer:
    """Signs with a key of its own for each purpose: a token for one is none for another."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def tag(self, purpose: str, payload: bytes) -> bytes:
        """A tag of 16 bytes."""
        key = hmac.digest(self._secret, purpose.encode(), sha256)
        return hmac.digest(key, payload, sha256)[:_TAG_BYTES]

    def has_tag(self, purpose: str, payload: bytes, tag: bytes) -> bool:
        return hmac.compare_digest(self.tag(purpose, payload), tag)

    def sign(self, purpose: str, payload: bytes) -> str:
        """Payload and tag as one URL-safe text. The payload can be read by anybody."""
        return urlsafe_b64encode(self.tag(purpose, payload) + payload).decode().rstrip("=")

    def verify(self, purpose: str, token: str) -> bytes | None:
        """The payload, or None if the token was not made by `sign` for this purpose."""
        try:
            signed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (BadBase64, ValueError):
            return None
        tag, payload = signed[:_TAG_BYTES], signed[_TAG_BYTES:]
        if not self.has_tag(purpose, payload, tag) or self.sign(purpose, payload) != token:
            return None
        return payload
