"""The sample images of development, which `python -m commands.make_samples` makes and which are
shipped as files.

They are stored for a viewer unchanged, and contain how they were made: nothing is painted, decoded
or encoded.
"""

import json
from pathlib import Path
from typing import Final

from domain.ids import ModelId
from domain.images import DigitalSourceType, ProcessedImage, Provenance, Rendition
from domain.services.viewers import Sample
from storage.imaging.provenance import mark_rendition

FOLDER: Final = Path(__file__).parent / "sample_images"
INDEX: Final = "samples.json"
_CONTENT_TYPE: Final = "image/webp"
_SOURCE: Final = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA


def load_samples() -> list[Sample]:
    """Read all of them. The gallery shows the last one first."""
    return [
        Sample(
            prompt=entry["prompt"],
            model_id=ModelId(entry["model"]),
            image=ProcessedImage(
                original=_rendition(entry["original"]),
                thumbhash=entry["thumbhash"],
                thumbnails=tuple(_rendition(file) for file in entry["thumbnails"]),
                provenance=Provenance(_SOURCE, content_credentials=False),
            ),
        )
        for entry in json.loads((FOLDER / INDEX).read_text())
    ]


def _rendition(file: dict[str, str | int]) -> Rendition:
    rendition = Rendition(
        data=(FOLDER / str(file["name"])).read_bytes(),
        content_type=_CONTENT_TYPE,
        width=int(file["width"]),
        height=int(file["height"]),
    )
    return mark_rendition(rendition, _SOURCE)
