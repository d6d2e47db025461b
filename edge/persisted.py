"""Documents that clients name instead of sending them.

Two kinds. **Automatic**: a client sends the digest of a document, and the document itself only if
the digest is not known; all processes share what they have learned. **Trusted**: a list that is
deployed with Darkroom, by id; where nothing else is allowed, every other document is refused. What
must stay true: what is kept is bounded, whatever clients send; and a digest leads only to the
document that it was computed from.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from domain.errors import Overloaded

MAX_KEPT_CHARACTERS: Final = 32 * 1024
"""The length of a document that is kept. A longer one has to be sent each time."""
REMEMBERED_DOCUMENTS: Final = 500
_PREFIX: Final = "sha256:"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class DocumentNotKnown(Exception):
    """The digest is not known: the client has to send the document."""


class DocumentNotTrusted(Exception):
    """Only listed documents are allowed, and this one is not listed."""


class DigestWrong(Exception):
    """The digest is that of another document."""


class DocumentStore(Protocol):
    """Stores documents for all processes. It may forget them."""

    async def find(self, digest: str) -> str | None: ...

    async def keep(self, digest: str, document: str) -> None: ...


class PersistedDocuments:
    """`trusted` has documents by id; `only_trusted` refuses all others."""

    def __init__(
        self,
        store: DocumentStore | None = None,
        *,
        trusted: Mapping[str, str] | None = None,
        only_trusted: bool = False,
    ) -> None:
        self._store = store
        self._trusted = dict(trusted or {})
        self._trusted_texts = frozenset(self._trusted.values())
        self._only_trusted = only_trusted
        self._remembered: OrderedDict[str, str] = OrderedDict()

    def needs_looking_up(self, document: str | None, name: str | None) -> bool:
        """Whether `find` has to be called."""
        return self._only_trusted or document is None or name is not None

    async def find(self, document: str | None, name: str | None) -> str:
        """The document that a client sends, or names by a digest or an id.

        Raise DocumentNotKnown, DocumentNotTrusted or DigestWrong.
        """
        name = name.removeprefix(_PREFIX) if name is not None else None
        trusted = self._trusted.get(name) if name is not None else None
        if trusted is not None and document in {None, trusted}:
            return trusted
        if self._only_trusted:
            if document in self._trusted_texts:
                return document
            raise DocumentNotTrusted
        if document is None:
            return await self._find_by_digest(name)
        if name is not None and name != sha256(document.encode()).hexdigest():
            raise DigestWrong
        return document

    async def keep(self, document: str, name: str | None) -> None:
        """Keep a valid document that has come with its digest."""
        digest = name.removeprefix(_PREFIX) if name is not None else None
        if digest is None or digest in self._remembered or digest in self._trusted:
            return
        if self._only_trusted or len(document) > MAX_KEPT_CHARACTERS:
            return
        self._remember(digest, document)
        if self._store is not None:
            with suppress(Overloaded):  # Another process will ask the client for it.
                await self._store.keep(digest, document)

    async def _find_by_digest(self, digest: str | None) -> str:
        if digest is None or not _DIGEST.fullmatch(digest):
            raise DocumentNotKnown
        found = self._remembered.get(digest)
        if found is not None:
            self._remembered.move_to_end(digest)
            return found
        if self._store is not None:
            with suppress(Overloaded):  # The client will send the document.
                found = await self._store.find(digest)
        if found is None:
            raise DocumentNotKnown
        self._remember(digest, found)
        return found

    def _remember(self, digest: str, document: str) -> None:
        self._remembered[digest] = document
        if len(self._remembered) > REMEMBERED_DOCUMENTS:
            self._remembered.popitem(last=False)


def read_trusted_documents(path: Path) -> Mapping[str, str]:
    """Read documents by id: a JSON object as graphql-codegen and Relay write it, or a manifest of
    Apollo's. Raise OSError or ValueError.
    """
    found = json.loads(path.read_text())
    if isinstance(found, dict) and isinstance(found.get("operations"), list):
        found = {one["id"]: one["body"] for one in found["operations"] if isinstance(one, dict)}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError("it is not an object of documents by id")
    return found
