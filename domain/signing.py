"""Signed tokens: opaque text that only this deployment can have made, and nobody can alter."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

_TAG_BYTES: Final = 16
_REMEMBERED_KEYS: Final = 1_024
"""Of purposes: many tokens are for the same one, such as all cursors of a list."""


class Signer:
    """Signs with a key of its own for each purpose: a token for one is none for another.

    What was signed with one of the `accepted` secrets is valid too, so that the secret can be
    replaced while old tokens are still in use.
    """

    def __init__(self, secret: bytes, *, accepted: Sequence[bytes] = ()) -> None:
        self._secret = secret
        self.accepted: tuple[Signer, ...] = (self, *map(Signer, accepted))

    def tag(self, purpose: str, payload: bytes) -> bytes:
        """A tag of 16 bytes."""
        tag = _begin(self._secret, purpose).copy()
        tag.update(payload)
        return tag.digest()[:_TAG_BYTES]

    def text_tag(self, purpose: str, payload: bytes) -> str:
        """The same as URL-safe text."""
        return _encode(self.tag(purpose, payload))

    def sign(self, purpose: str, payload: bytes) -> str:
        """Payload and tag as one URL-safe text. The payload can be read by anyone."""
        return _encode(self.tag(purpose, payload) + payload)

    def verify(self, purpose: str, token: str) -> bytes | None:
        """The payload, or None if the token was not made by `sign` for this purpose."""
        found = self.find_signed(purpose, token)
        return found and found[0]

    def find_signed(self, purpose: str, token: str) -> "tuple[bytes, Signer] | None":
        """The payload, and which one has signed it: itself, or that of an accepted secret."""
        try:
            signed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except (BadBase64, ValueError):
            return None
        tag, payload = signed[:_TAG_BYTES], signed[_TAG_BYTES:]
        signer = self._find_signer(purpose, payload, tag)
        # There is one way to write a token.
        return None if signer is None or _encode(signed) != token else (payload, signer)

    def _find_signer(self, purpose: str, payload: bytes, tag: bytes) -> "Signer | None":
        for one in self.accepted:
            if hmac.compare_digest(one.tag(purpose, payload), tag):
                return one
        return None


@lru_cache(_REMEMBERED_KEYS)
def _begin(secret: bytes, purpose: str) -> hmac.HMAC:
    """A tag of nothing yet, with the purpose's own key. To copy it takes less than to begin one."""
    return hmac.new(hmac.digest(secret, purpose.encode(), sha256), digestmod=sha256)


def _encode(data: bytes) -> str:
    """Bytes as URL-safe text."""
    return urlsafe_b64encode(data).decode().rstrip("=")
