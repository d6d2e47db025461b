"""Every key of the object store that a document refers to."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from storage.database import Database, Document, translated
from storage.images import image_keys

_OF_IMAGE: Final = ("key", "renditionWidths")
"""What is read of each image. Where there is none, the field is left out of what is read."""


class MongoUsedKeyRepository:
    """See `domain.ports.UsedKeyRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self) -> AsyncIterator[str]:
        with translated():
            async for image in self._database.images.find({}, _shown("")):
                for key in image_keys(image):
                    yield key
            async for found in self._database.conversations.find({}, _shown("sourceImage.")):
                if found.get("sourceImage"):
                    for key in image_keys(found["sourceImage"]):
                        yield key
            async for turn in self._database.turns.find({}, _OF_TURN):
                for key in _keys_of_turn(turn):
                    yield key


def _keys_of_turn(turn: Document) -> Iterator[str]:
    for reference in turn["references"]:
        yield from image_keys(reference["image"])
    for output in turn["outputs"]:
        for image in output["images"]:
            yield from image_keys(image)
        if output.get("preview"):
            yield output["preview"]["key"]


def _shown(prefix: str) -> Document:
    return {f"{prefix}{name}": 1 for name in _OF_IMAGE}


_OF_TURN: Final[Document] = {
    **_shown("references.image."),
    **_shown("outputs.images."),
    "outputs.preview.key": 1,
}
