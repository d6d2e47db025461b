"""Keys of the object store: which names are keys, the type of their bytes, and how long a link
stays the same.

Only what `new_key`, `rendition_key` and `mark_key` make is a key; this is checked before a store is
asked.
"""

import re
import zlib
from typing import Final

from domain.images import FILE_EXTENSIONS
from domain.uploads import DeclaredFile

LINK_WINDOW_SECONDS: Final = 30 * 60
"""A key's link stays the same for one window, and is valid for one window more."""
LINKS_REMEMBERED: Final = 10_000
UPLOAD_URL_SECONDS: Final = 15 * 60

_NAME: Final = r"(?P<shard>[0-9a-f]{2})/(?P=shard)[0-9a-f]{38}"
_LINKED: Final = re.compile(
    rf"(?:images|previews|samples|exports)/{_NAME}"
    r"(?:\.(?:png|jpg|webp|zip)|-[1-9][0-9]{0,4}w\.webp)"
)
_UPLOADED: Final = re.compile(rf"uploads/{_NAME}\.(?:png|jpg|webp|heic|heif|zip)")
_MARK: Final = re.compile(rf"owners/{_NAME}\.txt")
_CONTENT_TYPES: Final = {
    "txt": "text/plain",
    **{ending: content_type for content_type, ending in FILE_EXTENSIONS.items()},
}


def is_key(name: str) -> bool:
    """Whether a store can hold something under this name."""
    return any(kind.fullmatch(name) is not None for kind in (_LINKED, _UPLOADED, _MARK))


def checked(key: str) -> str:
    """Return the key. Raise ValueError for a name that is no key."""
    if not is_key(key):
        raise ValueError(f"not a key of the object store: {key!r}")
    return key


def has_links(key: str) -> bool:
    """Whether the key has links: uploads have none, since their bytes have not been checked, and
    marks have none.
    """
    return _LINKED.fullmatch(key) is not None


def linked(key: str) -> str:
    """Return the key. Raise ValueError where it has no links."""
    if not has_links(key):
        raise ValueError(f"not a key that has links: {key!r}")
    return key


def checked_upload(key: str, file: DeclaredFile) -> None:
    """Raise ValueError for a file that no store can take."""
    if _UPLOADED.fullmatch(key) is None or content_type_of(key) != file.content_type:
        raise ValueError(f"not a key for an upload of {file.content_type}: {key!r}")
    if file.byte_size <= 0 or (file.sha256 is not None and len(file.sha256) != 32):
        raise ValueError("not a size and a digest of anything")


def content_type_of(key: str) -> str:
    return _CONTENT_TYPES[key.rpartition(".")[2]]


def link_begin(key: str, now: float) -> int:
    """When the current window of the key's link began, in seconds since 1970.

    Each key's windows begin at a time of its own, so that the links of a page do not all change at
    once.
    """
    offset = zlib.crc32(key.encode()) % LINK_WINDOW_SECONDS
    return (int(now) + offset) // LINK_WINDOW_SECONDS * LINK_WINDOW_SECONDS - offset
