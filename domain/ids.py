"""Ids: a prefix that names the kind, and a UUIDv7 in base32 (TypeID).

A turn's id is made from its conversation's, an output's from its parent's, so that a turn's
position and conversation, and what an output belongs to, are known without a lookup:

    conv_01jd…   turn_01jd…_0003   out_01jd…_0003_1
                 post_01je…        pout_01je…_1

Turns count from 0000 as `turnIndex` does, slots from 1. Slot 0 is a post's caption.
"""

import re
from hashlib import sha256
from typing import Final, NewType, TypeAlias

from typeid import TypeID
from uuid_utils import UUID

AlbumId = NewType("AlbumId", str)
ConversationId = NewType("ConversationId", str)
TurnId = NewType("TurnId", str)
PostId = NewType("PostId", str)
OutputId = NewType("OutputId", str)
ImageId = NewType("ImageId", str)
PromptId = NewType("PromptId", str)
UploadId = NewType("UploadId", str)
ExportId = NewType("ExportId", str)
ImportId = NewType("ImportId", str)
ShareId = NewType("ShareId", str)
ViewerId = NewType("ViewerId", str)
ModelId = NewType("ModelId", str)
WebhookId = NewType("WebhookId", str)
DeliveryId = NewType("DeliveryId", str)

ParentId: TypeAlias = TurnId | PostId
"""The id of a parent."""

LAST_TURN_INDEX: Final = 9_999

_SUFFIX = r"[0-7][0-9a-hjkmnp-tv-z]{25}"
_ALBUM = re.compile(rf"album_({_SUFFIX})")
_CONVERSATION = re.compile(rf"conv_({_SUFFIX})")
_TURN = re.compile(rf"turn_({_SUFFIX})_([0-9]{{4}})")
_POST = re.compile(rf"post_({_SUFFIX})")
_OUTPUT = re.compile(rf"(?:out_{_SUFFIX}_[0-9]{{4}}|pout_{_SUFFIX})_[1-9][0-9]?")
_CAPTION = re.compile(rf"pout_{_SUFFIX}_0")
_IMAGE = re.compile(rf"img_({_SUFFIX})")
_PROMPT = re.compile(rf"prompt_({_SUFFIX})")
_UPLOAD = re.compile(rf"upl_({_SUFFIX})")
_EXPORT = re.compile(rf"exp_({_SUFFIX})")
_IMPORT = re.compile(rf"imp_({_SUFFIX})")
_SHARE = re.compile(rf"share_({_SUFFIX})")
_VIEWER = re.compile(rf"user_({_SUFFIX})")
_WEBHOOK = re.compile(rf"hook_({_SUFFIX})")
_DELIVERY = re.compile(rf"dlv_({_SUFFIX})")


def new_album_id() -> AlbumId:
    return AlbumId(str(TypeID(prefix="album")))


def new_conversation_id() -> ConversationId:
    return ConversationId(str(TypeID(prefix="conv")))


def new_post_id() -> PostId:
    return PostId(str(TypeID(prefix="post")))


def new_image_id() -> ImageId:
    return ImageId(str(TypeID(prefix="img")))


def new_upload_id() -> UploadId:
    return UploadId(str(TypeID(prefix="upl")))


def new_webhook_id() -> WebhookId:
    return WebhookId(str(TypeID(prefix="hook")))


def new_delivery_id() -> DeliveryId:
    return DeliveryId(str(TypeID(prefix="dlv")))


def new_export_id() -> ExportId:
    return ExportId(str(TypeID(prefix="exp")))


def import_id_of(upload_id: UploadId) -> ImportId:
    """The id of the image of an upload, always the same, so that an upload becomes one image."""
    return ImportId(_digest_id("imp", upload_id))


def new_share_id() -> ShareId:
    return ShareId(str(TypeID(prefix="share")))


def new_erased_id() -> str:
    """An id that stands for a deleted viewer. It cannot be traced back to the viewer."""
    return str(TypeID(prefix="erased"))


def viewer_id_of(issuer: str, subject: str) -> ViewerId:
    """The viewer's id, always the same for one subject of one issuer, so that it need not be
    stored.
    """
    return ViewerId(_digest_id("user", f"{issuer}\n{subject}"))


def prompt_id_of(viewer_id: ViewerId, text: str) -> PromptId:
    """A prompt's id, always the same for one text of one viewer, so that a text is stored once."""
    return PromptId(_digest_id("prompt", f"{viewer_id}\n{text}"))


def turn_id_of(conversation_id: ConversationId, turn_index: int) -> TurnId:
    return TurnId(f"turn_{_suffix_of(conversation_id)}_{turn_index:04d}")


def output_id_of(parent_id: ParentId, slot: int) -> OutputId:
    kind, _, suffix = parent_id.partition("_")
    return OutputId(f"{'pout' if kind == 'post' else 'out'}_{suffix}_{slot}")


def conversation_of_turn(turn_id: TurnId) -> ConversationId:
    return ConversationId(f"conv_{turn_id.split('_')[1]}")


def parent_of_output(output_id: OutputId) -> tuple[ParentId, int]:
    """The parent of an output, and its slot there."""
    parent, _, slot = output_id.rpartition("_")
    kind, _, suffix = parent.partition("_")
    parent_id = PostId(f"post_{suffix}") if kind == "pout" else TurnId(f"turn_{suffix}")
    return parent_id, int(slot)


def as_turn_id(parent_id: ParentId) -> TurnId | None:
    return TurnId(parent_id) if parent_id.startswith("turn_") else None


def as_post_id(parent_id: ParentId) -> PostId | None:
    return PostId(parent_id) if parent_id.startswith("post_") else None


def index_of_turn(turn_id: TurnId) -> int:
    return int(turn_id.rpartition("_")[2])


def turn_id_range(conversation_id: ConversationId) -> tuple[str, str]:
    """A range of ids that contains those of all turns of the conversation."""
    suffix = _suffix_of(conversation_id)
    return f"turn_{suffix}_", f"turn_{suffix}`"


def parse_album_id(value: str) -> AlbumId | None:
    return AlbumId(value) if _ALBUM.fullmatch(value) else None


def parse_conversation_id(value: str) -> ConversationId | None:
    return ConversationId(value) if _CONVERSATION.fullmatch(value) else None


def parse_turn_id(value: str) -> TurnId | None:
    return TurnId(value) if _TURN.fullmatch(value) else None


def parse_post_id(value: str) -> PostId | None:
    return PostId(value) if _POST.fullmatch(value) else None


def parse_output_id(value: str) -> OutputId | None:
    return OutputId(value) if _OUTPUT.fullmatch(value) else None


def parse_entry_id(value: str) -> OutputId | None:
    """The id of what is run for a parent: an output, or the caption of a post, which clients never
    see.
    """
    return OutputId(value) if _CAPTION.fullmatch(value) else parse_output_id(value)


def parse_image_id(value: str) -> ImageId | None:
    return ImageId(value) if _IMAGE.fullmatch(value) else None


def parse_prompt_id(value: str) -> PromptId | None:
    return PromptId(value) if _PROMPT.fullmatch(value) else None


def parse_upload_id(value: str) -> UploadId | None:
    return UploadId(value) if _UPLOAD.fullmatch(value) else None


def parse_export_id(value: str) -> ExportId | None:
    return ExportId(value) if _EXPORT.fullmatch(value) else None


def parse_import_id(value: str) -> ImportId | None:
    return ImportId(value) if _IMPORT.fullmatch(value) else None


def parse_share_id(value: str) -> ShareId | None:
    return ShareId(value) if _SHARE.fullmatch(value) else None


def parse_viewer_id(value: str) -> ViewerId | None:
    return ViewerId(value) if _VIEWER.fullmatch(value) else None


def parse_webhook_id(value: str) -> WebhookId | None:
    return WebhookId(value) if _WEBHOOK.fullmatch(value) else None


def parse_delivery_id(value: str) -> DeliveryId | None:
    return DeliveryId(value) if _DELIVERY.fullmatch(value) else None


def conversation_id_of(import_id: ImportId, old: str) -> ConversationId:
    """The new id of a conversation of an export, the same each time."""
    return ConversationId(_digest_id("conv", f"{import_id}\n{old}"))


def post_id_of(import_id: ImportId, old: str) -> PostId:
    """The new id of a post of an export, the same each time."""
    return PostId(_digest_id("post", f"{import_id}\n{old}"))


def album_id_of(import_id: ImportId, old: str) -> AlbumId:
    """The new id of an album of an export, the same each time."""
    return AlbumId(_digest_id("album", f"{import_id}\n{old}"))


def image_id_of(import_id: ImportId, old: str) -> ImageId:
    """The new id of an image of an export, the same each time."""
    return ImageId(_digest_id("img", f"{import_id}\n{old}"))


def bytes_of_id(value: str) -> bytes:
    """The 16 bytes of an id without its prefix."""
    return TypeID.from_string(value).uuid_bytes


def share_id_of(number: bytes) -> ShareId:
    return ShareId(_id_of("share", number))


def viewer_id_from(number: bytes) -> ViewerId:
    return ViewerId(_id_of("user", number))


def _digest_id(prefix: str, text: str) -> str:
    digest = sha256(text.encode()).digest()
    return str(TypeID.from_uuid(UUID(bytes=digest[:16], version=8), prefix=prefix))


def _id_of(prefix: str, number: bytes) -> str:
    return str(TypeID.from_uuid(UUID(bytes=number), prefix=prefix))


def _suffix_of(conversation_id: ConversationId) -> str:
    return conversation_id.removeprefix("conv_")
