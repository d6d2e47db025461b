"""Albums: images that a viewer has put together, in an order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.ids import AlbumId

MAX_ALBUM_IMAGES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    id: AlbumId
    title: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAlbum:
    """Change an album: its title, and its images. An image that is taken out and put in again comes
    last.
    """

    album_id: str
    title: str | None = None
    """None: the title stays."""
    add_image_ids: Sequence[str] = ()
    remove_image_ids: Sequence[str] = ()
