"""Pictures: the facts about one that never change, and the record that the gallery shows."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.ids import ImageId, ModelId, OutputId


class ImageOrigin(StrEnum):
    OUTPUT = "OUTPUT"
    POST = "POST"
    SAMPLE = "SAMPLE"
    UPLOAD = "UPLOAD"


class DigitalSourceType(StrEnum):
    """How a picture was made, by IPTC's terms. The file says it, too."""

    TRAINED_ALGORITHMIC_MEDIA = "trainedAlgorithmicMedia"
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA = "compositeWithTrainedAlgorithmicMedia"

    @classmethod
    def of_model(cls, *, edited: bool) -> "DigitalSourceType":
        """What a model has made, of other images or of words alone."""
        if edited:
            return cls.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
        return cls.TRAINED_ALGORITHMIC_MEDIA


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the files of a picture say about how it was made."""

    digital_source_type: DigitalSourceType
    content_credentials: bool
    """Whether the original has the provider's manifest (C2PA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is known of a picture from the moment it exists, and copied wherever it is referred to.

    `key` names its bytes in the object store. A rendition of width w has the key
    `rendition_key(key, w)`.
    """

    id: ImageId
    key: str
    width: int
    height: int
    content_type: str
    byte_size: int
    thumbhash: str | None
    rendition_widths: tuple[int, ...]
    """Widths of the thumbnails in the object store, ascending, all below `width`."""
    origin: ImageOrigin
    model_id: ModelId | None
    seed: str | None
    output_id: OutputId | None
    created_at: datetime
    provenance: Provenance | None = None
    """None where the files say nothing: of an upload, and of what was made before they did."""

    def key_at_least(self, width: int) -> str:
        """The key of the smallest rendition that is at least so wide; the picture itself if none
        is.
        """
        for rendition_width in self.rendition_widths:
            if rendition_width >= width:
                return rendition_key(self.key, rendition_width)
        return self.key

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key whose bytes belong to this picture."""
        return (self.key, *(rendition_key(self.key, width) for width in self.rendition_widths))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A picture in its owner's gallery, with how it came about."""

    image: Image
    prompt: str | None
    made_from: tuple[ImageId, ...]
    favourite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImages:
    """Why images were not deleted, none of them."""

    missing: frozenset[ImageId]
    used: frozenset[ImageId]
    """A conversation begins from one, or a turn refers to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """Bytes of a picture in one size."""

    data: bytes
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedImage:
    """A picture that has been decoded and checked, with all that is derived from its pixels."""

    original: Rendition
    thumbhash: str
    thumbnails: tuple[Rendition, ...]
    """WebP, ascending by width, each narrower than the original."""
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How much of a base a model has changed: fractions of the base's pixels, from 0 to 1.

    The two pictures are aligned before, since models shift and scale.
    """

    changed: float
    outside_mask: float | None = None
    """What has been changed although a mask said that it may not; None without a mask."""


@dataclass(frozen=True, slots=True)
class EditedImage:
    """An edit in the frame of its base, with the base put back where it should not have changed."""

    processed: ProcessedImage
    drift: Drift
    """Of what the model had made."""


EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""Content types that are kept, and how keys of such bytes end: a key alone tells its type."""
UPLOAD_EXTENSIONS: Final = EXTENSIONS | {"image/heic": "heic", "image/heif": "heif"}
"""The same for what a viewer may send."""
ARCHIVE: Final = "application/zip"
FILE_EXTENSIONS: Final = UPLOAD_EXTENSIONS | {ARCHIVE: "zip"}
"""The same for all that the object store has for viewers."""


FOLDERS: Final = ("images", "previews", "samples", "uploads", "exports")
"""The first step of every key that belongs to a viewer."""
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
"""The second step of every key, which is how its name begins."""


def new_key(folder: str, content_type: str) -> str:
    """A key that nobody can guess, e.g. `images/3f/3fab….png`."""
    name = secrets.token_hex(20)
    return f"{folder}/{name[:2]}/{name}.{FILE_EXTENSIONS[content_type]}"


def shard_of(key: str) -> str:
    return key.split("/")[1]


def rendition_key(key: str, width: int) -> str:
    """The key of a thumbnail; thumbnails are WebP."""
    return f"{key.rpartition('.')[0]}-{width}w.webp"
