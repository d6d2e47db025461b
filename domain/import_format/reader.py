"""Reads an export part by part: its manifest, its images, its turns, posts and albums."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.albums import MAX_ALBUM_IMAGES, Album
from domain.captions import (
    MAX_CAPTION_LENGTH,
    MAX_HASHTAGS,
    MAX_LANGUAGE_LENGTH,
    MAX_TONE_LENGTH,
    MIN_CAPTION_LENGTH,
    CaptionOptions,
)
from domain.conversations import MAX_TITLE_LENGTH
from domain.export_format import FORMAT, VERSION
from domain.ids import ConversationId, ImageId, ImportId, ModelId, OutputId, ViewerId, turn_id_of
from domain.images import EXTENSIONS, DigitalSourceType, Image, ImageOrigin
from domain.import_format.facts import Facts, NotAnExport
from domain.import_format.new_ids import NewIds
from domain.import_format.parts import MAX_REFERENCES, PartsReader
from domain.models import AspectRatio, Resolution
from domain.outputs import CAPTION_SLOT
from domain.posts import Post
from domain.rules import derive_status
from domain.turns import Turn

MAX_CONVERSATIONS: Final = 5_000
MAX_POSTS: Final = 10_000
MAX_ALBUMS: Final = 1_000
MAX_ALBUM_ENTRIES: Final = 200_000
"""Of all albums together."""
MAX_PARTS: Final = 10_000
MAX_IMAGE_BYTES: Final = 64_000_000
_MAX_TURNS: Final = 10_000
_CAPTION: Final = range(CAPTION_SLOT, CAPTION_SLOT + 1)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedImage:
    """The facts of an image, before its bytes are read."""

    id: ImageId
    file: str
    sha256: str
    origin: ImageOrigin
    model_id: ModelId | None
    seed: str | None
    output_id: OutputId | None
    source: DigitalSourceType | None
    prompt: str | None
    made_from: tuple[ImageId, ...]
    favourite: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConversation:
    """The facts of a conversation, before its turns are read."""

    id: ConversationId
    title: str
    title_was_given: bool
    source_image_id: ImageId | None
    aspect_ratio: AspectRatio
    resolution: Resolution
    created_at: datetime
    turn_parts: Sequence[str]


@dataclass(frozen=True, slots=True)
class ImportedAlbum:
    album: Album
    image_ids: Sequence[ImageId]
    """In the album's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedManifest:
    conversations: Sequence[ImportedConversation]
    image_parts: Sequence[str]
    """The names of the parts that contain the facts of images; likewise below."""
    post_parts: Sequence[str]
    album_parts: Sequence[str]

    @property
    def parts(self) -> Sequence[str]:
        """The names of all parts."""
        turns = (name for one in self.conversations for name in one.turn_parts)
        return [*turns, *self.image_parts, *self.post_parts, *self.album_parts]


@dataclass(frozen=True, slots=True)
class ImportReader:
    """Reads the facts of one import."""

    import_id: ImportId
    owner_id: ViewerId

    @property
    def ids(self) -> NewIds:
        return NewIds(self.import_id)

    def read_manifest(self, manifest: object) -> ImportedManifest:
        facts = Facts(manifest, "The manifest")
        if facts.text("format") != FORMAT or facts.number("version") != VERSION:
            raise NotAnExport("This is not an export that can be read here.")
        conversations = [
            self._read_conversation(entry)
            for entry in facts.list("conversations", most=MAX_CONVERSATIONS)
        ]
        if len({conversation.id for conversation in conversations}) != len(conversations):
            raise NotAnExport("The export has a conversation twice.")
        read = ImportedManifest(
            conversations=conversations,
            image_parts=facts.texts("images", most=MAX_PARTS),
            # Missing in exports that were made before there were posts and albums.
            post_parts=_part_names(facts, "posts"),
            album_parts=_part_names(facts, "albums"),
        )
        # A part that is named a thousand times would be read as often.
        if len(set(read.parts)) != len(read.parts):
            raise NotAnExport("The export names a part twice.")
        return read

    def read_images(self, part: object) -> Sequence[ImportedImage]:
        """Read the images of a part that have a file."""
        facts = Facts(part, "A part with images")
        images = (self._read_image(entry) for entry in facts.list("images", most=MAX_PARTS))
        return [image for image in images if image is not None]

    def read_turns(
        self,
        part: object,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
        *,
        begin: int,
    ) -> Sequence[Turn]:
        """Read turns in their order, the first one with this index or a later one."""
        facts = Facts(part, "A part with turns")
        turns = [
            self._read_turn(entry, conversation, images)
            for entry in facts.list("turns", most=_MAX_TURNS - begin)
        ]
        indexes = [turn.turn_index for turn in turns]
        # There are gaps where turns were deleted.
        if not turns or indexes[0] < begin or indexes != sorted(set(indexes)):
            raise NotAnExport("The turns of a conversation are not in order.")
        return turns

    def read_posts(self, part: object, images: Mapping[ImageId, Image]) -> Sequence[Post]:
        facts = Facts(part, "A part with posts")
        return [self._read_post(entry, images) for entry in facts.list("posts", most=MAX_POSTS)]

    def read_albums(self, part: object, images: Mapping[ImageId, Image]) -> Sequence[ImportedAlbum]:
        facts = Facts(part, "A part with albums")
        return [self._read_album(entry, images) for entry in facts.list("albums", most=MAX_ALBUMS)]

    def _read_conversation(self, value: object) -> ImportedConversation:
        facts = Facts(value, "A conversation")
        return ImportedConversation(
            id=self.ids.conversation(facts.text("id")),
            title=facts.text("title", most=MAX_TITLE_LENGTH),
            title_was_given=facts.flag("titleWasGiven"),
            source_image_id=facts.optional(
                "sourceImageId", lambda name: self.ids.image(facts.text(name))
            ),
            aspect_ratio=facts.ratio("aspectRatio"),
            resolution=facts.member("resolution", Resolution),
            created_at=facts.instant("createdAt"),
            turn_parts=facts.texts("turns", most=MAX_PARTS),
        )

    def _read_image(self, value: object) -> ImportedImage | None:
        facts = Facts(value, "An image")
        file = facts.optional("file", facts.word)
        if file is None:
            return None
        digest = facts.text("sha256", most=64)
        if _DIGEST.fullmatch(digest) is None or facts.text("contentType") not in EXTENSIONS:
            raise NotAnExport("An image has no valid digest or type.")
        return ImportedImage(
            id=self.ids.image(facts.text("id")),
            file=file,
            sha256=digest,
            origin=facts.member("origin", ImageOrigin),
            model_id=_model_id(facts.optional("model", facts.word)),
            seed=facts.optional("seed", facts.word),
            output_id=self.ids.output(facts.optional("outputId", facts.word)),
            source=facts.optional(
                "digitalSourceType", lambda name: facts.member(name, DigitalSourceType)
            ),
            prompt=facts.optional("prompt", facts.text),
            made_from=tuple(
                self.ids.image(name) for name in facts.texts("madeFrom", most=MAX_REFERENCES)
            ),
            favourite=facts.flag("favourite"),
            created_at=facts.instant("createdAt"),
        )

    def _read_turn(
        self,
        value: object,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
    ) -> Turn:
        facts, parts = Facts(value, "A turn"), PartsReader(self.ids, images)
        index = facts.number("turnIndex", most=_MAX_TURNS - 1)
        common = parts.parent(facts, turn_id_of(conversation.id, index), self.owner_id)
        status = derive_status(output.status for output in common["outputs"])
        return Turn(**common, turn_index=index, status=status)

    def _read_post(self, value: object, images: Mapping[ImageId, Image]) -> Post:
        facts, parts = Facts(value, "A post"), PartsReader(self.ids, images)
        post_id = self.ids.post(facts.text("id"))
        common = parts.parent(facts, post_id, self.owner_id)
        if any(output.chosen for output in common["outputs"]):
            raise NotAnExport("An output of a post is chosen.")
        caption = parts.output(facts.inside("captionOutput"), post_id, slots=_CAPTION)
        return Post(
            **common,
            caption_output=caption,
            caption_options=_read_caption_options(facts.inside("captionOptions")),
            reference_prompts=_read_prompts(facts),
            landed_caption=facts.optional("caption", facts.text),
        )

    def _read_album(self, value: object, images: Mapping[ImageId, Image]) -> ImportedAlbum:
        facts = Facts(value, "An album")
        ids = [self.ids.image(text) for text in facts.texts("images", most=MAX_ALBUM_IMAGES)]
        if len(set(ids)) != len(ids):
            raise NotAnExport("An album has an image twice.")
        album = Album(
            id=self.ids.album(facts.text("id")),
            title=facts.text("title", most=MAX_TITLE_LENGTH),
            created_at=facts.instant("createdAt"),
        )
        return ImportedAlbum(album, tuple(image_id for image_id in ids if image_id in images))


def _part_names(facts: Facts, name: str) -> tuple[str, ...]:
    return facts.optional(name, lambda name: facts.texts(name, most=MAX_PARTS)) or ()


def _read_caption_options(facts: Facts) -> CaptionOptions:
    return CaptionOptions(
        language=facts.optional(
            "language", lambda name: facts.text(name, most=MAX_LANGUAGE_LENGTH)
        ),
        max_length=facts.number("maxLength", least=MIN_CAPTION_LENGTH, most=MAX_CAPTION_LENGTH),
        hashtags=facts.number("hashtags", most=MAX_HASHTAGS),
        tone=facts.optional("tone", lambda name: facts.text(name, most=MAX_TONE_LENGTH)),
    )


def _read_prompts(facts: Facts) -> tuple[str, ...]:
    found = facts.list("referencePrompts", most=MAX_REFERENCES)
    return tuple(Facts({"prompt": prompt}, "A reference").text("prompt") for prompt in found)


def _model_id(name: str | None) -> ModelId | None:
    return ModelId(name) if name is not None else None
