"""Content Credentials: signs generated images with the operator's certificate, as C2PA defines it.

c2pa-python is optional (`requirements/c2pa.txt`), and is loaded where a certificate is configured.
"""

import logging
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from domain.images import DigitalSourceType, Rendition

log = logging.getLogger(__name__)

_SETTINGS: Final = {
    # The provider's file is only read: nothing in it may cause a request.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False},
    # It would add half a megabyte to each file.
    "builder": {"thumbnail": {"enabled": False}},
}
_INGREDIENT: Final = "delivered"
_TINY_PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)


class CredentialsError(Exception):
    """The certificate or the key cannot sign. The message is for an operator."""


class ContentCredentials:
    """Signs files. Safe in several threads at once: every signature has objects of its own."""

    def __init__(self, certificates: bytes, key: bytes) -> None:
        """PEM: the certificate chain, and its private key without a password. Raises
        CredentialsError if they cannot sign.
        """
        try:
            import c2pa  # noqa: PLC0415
        except ImportError as error:
            raise CredentialsError(
                "signing needs c2pa-python: pip install --require-hashes -r requirements/c2pa.txt"
            ) from error
        self._c2pa: Any = c2pa
        self._certificates = certificates
        self._key = key
        try:
            self._algorithm = _algorithm_of(key)
            self._sign(
                _TINY_PNG,
                "image/png",
                action=_created_action(DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA),
            )
        except (ValueError, TypeError, c2pa.C2paError) as error:
            raise CredentialsError(f"this certificate and key cannot sign: {error}") from error

    @classmethod
    def read(cls, certificates: Path, key: Path) -> Self:
        """Read both files. Raises CredentialsError."""
        try:
            return cls(certificates.read_bytes(), key.read_bytes())
        except OSError as error:
            raise CredentialsError(f"cannot be read: {error}") from error

    def sign(
        self, rendition: Rendition, source: DigitalSourceType, *, delivered: bytes | None
    ) -> Rendition | None:
        """The rendition with a manifest that says how it was made.

        `delivered` is the provider's file, if it has a manifest: the new one then refers to it.
        None if the file cannot be signed, which is logged: an image is worth more than its
        signature.
        """
        try:
            data = self._sign(
                rendition.data,
                rendition.content_type,
                action=_created_action(source),
                delivered=delivered,
            )
        except self._c2pa.C2paError as error:
            log.warning("image not signed", extra={"error": str(error)})
            return None
        return replace(rendition, data=data)

    def _sign(
        self,
        data: bytes,
        content_type: str,
        *,
        action: dict[str, Any],
        delivered: bytes | None = None,
    ) -> bytes:
        c2pa = self._c2pa
        if delivered is not None:
            action = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_INGREDIENT]}}
        manifest = {
            "claim_generator_info": [{"name": "Darkroom"}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        info = c2pa.C2paSignerInfo(self._algorithm, self._certificates, self._key, None)
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(manifest, context) as builder,
        ):
            if delivered is not None:
                ingredient = {"instance_id": _INGREDIENT, "relationship": "parentOf"}
                builder.add_ingredient(ingredient, content_type, BytesIO(delivered))
            signed = BytesIO()
            builder.sign(signer, content_type, BytesIO(data), signed)
        return signed.getvalue()


def _created_action(source: DigitalSourceType) -> dict[str, Any]:
    return {
        "action": "c2pa.created",
        "digitalSourceType": f"http://cv.iptc.org/newscodes/digitalsourcetype/{source.value}",
    }


def _algorithm_of(key: bytes) -> str:
    """The name in C2PA of the signature that fits the private key."""
    match load_pem_private_key(key, password=None):
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return "es256"
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return "es384"
        case ec.EllipticCurvePrivateKey(curve=ec.SECP521R1()):
            return "es512"
        case rsa.RSAPrivateKey():
            return "ps256"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case _:
            raise ValueError("the key should be of ECDSA (P-256, P-384, P-521), RSA or Ed25519")
