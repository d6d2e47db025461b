"""Content Credentials, read back by c2pa-python: signed by the operator, for every format."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from assembly.image_tools import open_image_tools
from domain.images import DigitalSourceType
from settings import Settings, SettingsError
from storage.imaging.content_credentials import ContentCredentials, CredentialsError
from storage.imaging.threaded import ThreadedImageProcessor
from tests.storage.pictures import (
    FORMATS,
    a_picture,
    encoded,
    exif,
    with_jpeg_segment,
    with_png_chunk,
)
from tests.storage.test_provenance import COMPOSITE, SAYING, SIGNED, TERMS, TRAINED, with_manifest

KEYS: Final[dict[str, Callable[[], Any]]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def pem_of(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[no-any-return]


def certificates_for(key: Any) -> bytes:
    """A certificate of this key and the one above it."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Operator"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Operator"),
        ]
    )
    above = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority")])
    today = datetime.now(UTC)

    def certificate(subject: x509.Name, public_key: Any, *, is_authority: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - timedelta(days=1))
            .not_valid_after(today + timedelta(days=30))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
                critical=False,
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if not is_authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(authority, SHA256()).public_bytes(Encoding.PEM)

    return certificate(name, key.public_key(), is_authority=False) + certificate(
        above, authority.public_key(), is_authority=True
    )


@pytest.fixture(scope="module")
def credentials() -> ContentCredentials:
    key = KEYS["P-256"]()
    return ContentCredentials(certificates_for(key), pem_of(key))


@pytest.fixture
async def processor(credentials: ContentCredentials) -> AsyncIterator[ThreadedImageProcessor]:
    async with processor_with(credentials) as processor:
        yield processor


@asynccontextmanager
async def processor_with(credentials: ContentCredentials) -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor(credentials=credentials)
    yield processor
    await processor.aclose()


def manifests_in(data: bytes, content_type: str) -> list[dict[str, Any]]:
    """All manifests, the active one first. Only the unknown certificate is objected to."""
    with c2pa.Reader(content_type, BytesIO(data)) as reader:
        store = json.loads(reader.json())
    violations = {one["code"] for one in store.get("validation_status", ())}
    assert violations == {"signingCredential.untrusted"}
    assert store["validation_state"] == "Valid"
    active = store["manifests"].pop(store["active_manifest"])
    return [active, *store["manifests"].values()]


def actions_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    [found] = [one for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    return found["data"]["actions"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("source", DigitalSourceType)
@pytest.mark.parametrize("image_format", FORMATS)
async def test_the_original_is_signed_and_no_pixel_changes(
    processor: ThreadedImageProcessor, image_format: str, source: DigitalSourceType
) -> None:
    data = encoded(a_picture(1100, 700), image_format)

    processed = await processor.process(data, source=source)

    original = processed.original
    [manifest] = manifests_in(original.data, original.content_type)
    [action] = actions_of(manifest)
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == TERMS + source.value
    assert manifest["claim_generator_info"][0]["name"] == "Darkroom"
    assert processed.provenance
    assert processed.provenance.content_credentials
    assert Image.open(BytesIO(original.data)).tobytes() == Image.open(BytesIO(data)).tobytes()
    assert TERMS.encode() in original.data, "XMP stays too, for readers that know only that"
    assert len(original.data) < len(data) + 30_000
    assert all(b"c2pa" not in thumbnail.data for thumbnail in processed.thumbnails)


@pytest.mark.parametrize("kind", KEYS)
async def test_keys_of_every_kind_sign(kind: str) -> None:
    key = KEYS[kind]()
    async with processor_with(ContentCredentials(certificates_for(key), pem_of(key))) as processor:
        signed = await asyncio.gather(
            *(
                processor.process(encoded(a_picture(), image_format), source=TRAINED)
                for image_format in FORMATS
            )
        )

    for processed in signed:
        manifests_in(processed.original.data, processed.original.content_type)


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_file_signed_by_its_provider_is_left_unchanged(
    processor: ThreadedImageProcessor, image_format: str
) -> None:
    data = (SIGNED / f"signed.{image_format.lower()}").read_bytes()

    assert (await processor.process(data, source=COMPOSITE)).original.data == data


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_re_encoded_file_refers_to_the_signed_original(
    processor: ThreadedImageProcessor, image_format: str
) -> None:
    """A provider's manifest does not fit the file without its comment: ours refers to it."""
    signed = (SIGNED / f"signed.{image_format.lower()}").read_bytes()
    data = with_comment(signed)

    processed = await processor.process(data, source=TRAINED)

    assert b"from the camera" not in processed.original.data
    mine, theirs = manifests_in(processed.original.data, processed.original.content_type)
    assert actions_of(mine)[0]["action"] == "c2pa.opened"
    assert actions_of(theirs)[0]["action"] == "c2pa.created"


@pytest.mark.parametrize("image_format", FORMATS)
async def test_a_broken_manifest_from_a_provider_does_not_lose_the_image(
    processor: ThreadedImageProcessor, image_format: str
) -> None:
    data = with_comment(with_manifest(encoded(a_picture(), image_format), SAYING))

    processed = await processor.process(data, source=TRAINED)

    assert TERMS.encode() in processed.original.data
    assert Image.open(BytesIO(processed.original.data)).size == a_picture().size


async def test_uploads_and_previews_are_not_signed(processor: ThreadedImageProcessor) -> None:
    data = encoded(a_picture(), "PNG", exif=exif(6))

    assert b"c2pa" not in (await processor.process(data)).original.data
    assert b"c2pa" not in (await processor.preview(data, source=TRAINED)).data


def with_comment(data: bytes) -> bytes:
    """The file with something that has to go."""
    comment = b"from the camera!"
    if data.startswith(b"\x89PNG"):
        return with_png_chunk(data, b"tEXt", b"Comment\0" + comment)
    if data.startswith(b"\xff\xd8"):
        return with_jpeg_segment(data, 0xFE, comment)
    chunks = data[12:] + b"EXIF" + len(comment).to_bytes(4, "little") + comment
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def test_an_unusable_certificate_or_key_is_refused_at_startup(tmp_path: Path) -> None:
    key = KEYS["P-256"]()
    other = KEYS["P-256"]()
    weak = dsa.generate_private_key(2048)
    for certificates, private in (
        (b"no certificate", pem_of(key)),
        (certificates_for(key), b"no key"),
        (certificates_for(key), pem_of(weak)),
        (certificates_for(key), pem_of(other)),
    ):
        with pytest.raises(CredentialsError):
            ContentCredentials(certificates, private)
    with pytest.raises(CredentialsError, match="cannot be read"):
        ContentCredentials.read(tmp_path / "missing.pem", tmp_path / "missing.pem")


async def test_settings_need_both_files_and_both_must_be_usable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be set together"):
        Settings(c2pa_certificate=tmp_path / "certificate.pem")
    settings = Settings(data_dir=tmp_path, c2pa_certificate=tmp_path / "a", c2pa_key=tmp_path / "b")
    with pytest.raises(SettingsError, match="DARKROOM_C2PA_CERTIFICATE"):
        async with open_image_tools(settings):
            pass
