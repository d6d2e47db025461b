"""Images: the facts of one that never change, and the record that the gallery shows."""

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
    """How an image was made, in IPTC's terms. The file contains it, too."""

    TRAINED_ALGORITHMIC_MEDIA = "trainedAlgorithmicMedia"
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA = "compositeWithTrainedAlgorithmicMedia"

    @classmethod
    def of_model(cls, *, edited: bool) -> "DigitalSourceType":
        """The source of what a model has made, from other images or from a message alone."""
        if edited:
            return cls.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
        return cls.TRAINED_ALGORITHMIC_MEDIA


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the metadata of an image's files says about how it was made."""

    digital_source_type: DigitalSourceType
    content_credentials: bool
    """Whether the original contains the provider's manifest (C2PA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The facts of an image that are known from the beginning, and copied wherever it is referred
    to.

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
    """None where the files do not say it: those of uploads, and of images made before it was
    written.
    """

    def key_at_least(self, width: int) -> str:
        """The key of the smallest rendition that is at least this wide; of the original
        if none is.
        """
        for rendition_width in self.rendition_widths:
            if rendition_width >= width:
                return rendition_key(self.key, rendition_width)
        return self.key

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the original and of all thumbnails."""
        return (self.key, *(rendition_key(self.key, width) for width in self.rendition_widths))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image in its owner's gallery, and where it comes from."""

    image: Image
    prompt: str | None
    made_from: tuple[ImageId, ...]
    favourite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImages:
    """Why images were not deleted. If one is kept, all are."""

    missing: frozenset[ImageId]
    used: frozenset[ImageId]
    """A conversation starts from one, or a turn refers to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """The bytes of an image in one size."""

    data: bytes
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedImage:
    """An image that has been decoded and checked, and everything that is derived from
    its pixels.
    """

    original: Rendition
    thumbhash: str
    thumbnails: tuple[Rendition, ...]
    """WebP, ascending by width, each narrower than the original."""
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How much of a base a model has changed: fractions of the base's pixels, from 0 to 1.

    The two images are aligned first, since models shift and scale.
    """

    changed: float
    outside_mask: float | None = None
    """The changed part outside of the mask; None without a mask."""


@dataclass(frozen=True, slots=True)
class EditedImage:
    """An edit in the base's frame, with the base put back where the mask protects it."""

    processed: ProcessedImage
    drift: Drift
    """How much the model had changed before that."""


EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""Content types that are stored, and the endings of their keys: a key alone tells its type."""
UPLOAD_EXTENSIONS: Final = EXTENSIONS | {"image/heic": "heic", "image/heif": "heif"}
"""The same for files that a viewer may send."""
ARCHIVE: Final = "application/zip"
FILE_EXTENSIONS: Final = UPLOAD_EXTENSIONS | {ARCHIVE: "zip"}
"""The same for everything in the object store that belongs to viewers."""
_OTHER_NAMES: Final = {
    **dict.fromkeys(("image/jpg", "image/pjpeg", "image/jfif"), "image/jpeg"),
    "image/x-png": "image/png",
    **dict.fromkeys(("application/x-zip-compressed", "application/x-zip"), ARCHIVE),
}
"""Names that file pickers and older systems have for these types."""


FOLDERS: Final = ("images", "previews", "samples", "uploads", "exports")
"""The first step of each key that belongs to a viewer."""
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
"""The second step of each key: the beginning of its name."""


def usual_type(content_type: str) -> str:
    """The registered name of a content type that has others, in lower case."""
    name = content_type.lower()
    return _OTHER_NAMES.get(name, name)


def new_key(folder: str, content_type: str) -> str:
    """A key that nobody can guess, e.g. `images/3f/3fab….png`."""
    name = secrets.token_hex(20)
    return f"{folder}/{name[:2]}/{name}.{FILE_EXTENSIONS[content_type]}"


def shard_of(key: str) -> str:
    return key.split("/")[1]


def rendition_key(key: str, width: int) -> str:
    """The key of a thumbnail; thumbnails are WebP."""
    return f"{key.rpartition('.')[0]}-{width}w.webp"
