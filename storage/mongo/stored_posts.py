"""Posts as documents: a parent whose first output is its caption."""

from collections.abc import Sequence
from typing import ClassVar

from domain.captions import CaptionOptions, PlannedCaption
from domain.posts import Post
from domain.stored import (
    Derived,
    Key,
    Listed,
    Many,
    One,
    Stored,
)
from storage.mongo.collections import Document
from storage.mongo.stored_outputs import StoredOutput
from storage.mongo.stored_parents import PARENT_FIELDS


class StoredCaptionOptions(Stored, CaptionOptions):
    __slots__ = ("companion", "record")
    kind = CaptionOptions
    fields: ClassVar = {
        "language": Key("language"),
        "max_length": Key("maxLength"),
        "hashtags": Key("hashtags"),
        "tone": Key("tone"),
    }


class StoredPost(Stored, Post):
    """Its first output is its caption."""

    __slots__ = ("companion", "record")
    kind = Post
    fields: ClassVar = PARENT_FIELDS | {
        "outputs": Many("outputs", StoredOutput, inherits=(("parentId", "_id"),), skip=1),
        "caption_output": Derived(
            lambda record: StoredOutput.of({**record["outputs"][0], "parentId": record["_id"]}),
            ("outputs", "_id"),
        ),
        "caption_options": One("captionOptions", StoredCaptionOptions),
        "reference_prompts": Listed("referencePrompts"),
        "landed_caption": Key("caption"),
    }


def caption_changes(planned: PlannedCaption) -> Document:
    """The fields of a post from which its caption is written."""
    return caption_documents(planned.options, planned.reference_prompts)


def caption_documents(options: CaptionOptions, reference_prompts: Sequence[str]) -> Document:
    return {
        "captionOptions": {
            "language": options.language,
            "maxLength": options.max_length,
            "hashtags": options.hashtags,
            "tone": options.tone,
        },
        "referencePrompts": list(reference_prompts),
    }
