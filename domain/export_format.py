"""What is in an export: the entries of its ZIP, as plain values for JSON.

manifest.json                     format, version, and the names of the parts below
images/part-0001.json             facts of up to 100 images, with the names of their files
images/img_01jd….png              an original, byte for byte
conversations/conv_01jd…/turns-0001.json    up to 50 turns
posts/part-0001.json          up to 50 posts
albums/part-0001.json         up to 10 albums, with the ids of their images in order
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from domain.albums import Album
from domain.conversations import Conversation
from domain.ids import ImageId
from domain.images import EXTENSIONS, Image, ImageRecord
from domain.outputs import Output
from domain.parents import Parent
from domain.posts import Post
from domain.references import Reference
from domain.turns import Turn

FORMAT: Final = "darkroom-export"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"

Facts: TypeAlias = dict[str, Any]


def file_name(image: Image) -> str:
    return f"images/{image.id}.{EXTENSIONS[image.content_type]}"


def image_part_name(number: int) -> str:
    return f"images/part-{number:04d}.json"


def turn_part_name(conversation: Conversation, number: int) -> str:
    return f"conversations/{conversation.id}/turns-{number:04d}.json"


def post_part_name(number: int) -> str:
    return f"posts/part-{number:04d}.json"


def album_part_name(number: int) -> str:
    return f"albums/part-{number:04d}.json"


def manifest(
    conversations: Sequence[Facts],
    image_parts: Sequence[str],
    *,
    post_parts: Sequence[str],
    album_parts: Sequence[str],
    exported_at: datetime,
) -> Facts:
    return {
        "format": FORMAT,
        "version": VERSION,
        "exportedAt": exported_at.isoformat(),
        "conversations": conversations,
        "images": image_parts,
        "posts": post_parts,
        "albums": album_parts,
    }


def facts_of_conversation(conversation: Conversation, turn_parts: Sequence[str]) -> Facts:
    source = conversation.source_image
    return {
        "id": conversation.id,
        "title": conversation.title,
        "titleWasGiven": conversation.title_was_given,
        "sourceImageId": source.id if source else None,
        "aspectRatio": str(conversation.aspect_ratio),
        "resolution": conversation.resolution,
        "createdAt": conversation.created_at.isoformat(),
        "updatedAt": conversation.updated_at.isoformat(),
        "turns": turn_parts,
    }


def facts_of_image(image: Image, record: ImageRecord | None, *, sha256: str | None) -> Facts:
    """`sha256` is None where the bytes are missing; then there is no file."""
    provenance = image.provenance
    return {
        "id": image.id,
        "file": file_name(image) if sha256 else None,
        "sha256": sha256,
        "byteSize": image.byte_size,
        "contentType": image.content_type,
        "width": image.width,
        "height": image.height,
        "origin": image.origin,
        "model": image.model_id,
        "seed": image.seed,
        "outputId": image.output_id,
        "prompt": record.prompt if record else None,
        "madeFrom": list(record.made_from) if record else [],
        "favourite": record.favourite if record else False,
        "digitalSourceType": provenance.digital_source_type if provenance else None,
        "createdAt": image.created_at.isoformat(),
    }


def facts_of_turn(turn: Turn) -> Facts:
    return {"turnIndex": turn.turn_index, "status": turn.status, **_facts_of_parent(turn)}


def facts_of_post(post: Post) -> Facts:
    options = post.caption_options
    return {
        "status": post.status,
        "caption": post.landed_caption,
        "captionOptions": {
            "language": options.language,
            "maxLength": options.max_length,
            "hashtags": options.hashtags,
            "tone": options.tone,
        },
        "captionOutput": _facts_of_output(post.caption_output),
        "referencePrompts": post.reference_prompts,
        **_facts_of_parent(post),
    }


def facts_of_album(album: Album, images: Sequence[ImageId]) -> Facts:
    return {
        "id": album.id,
        "title": album.title,
        "images": images,
        "createdAt": album.created_at.isoformat(),
    }


def _facts_of_parent(parent: Parent) -> Facts:
    return {
        "id": parent.id,
        "userMessage": parent.user_message,
        "selectedModels": list(parent.selected_model_ids),
        "references": _facts_of_references(parent.references),
        "previousWereNamed": parent.previous_were_named,
        "aspectRatio": str(parent.aspect_ratio),
        "resolution": parent.resolution,
        "options": {
            "imagesPerModel": parent.options.images_per_model,
            "previews": parent.options.previews,
            "quality": parent.options.quality,
            "format": parent.options.format,
            "width": parent.options.width,
            "height": parent.options.height,
            "seed": parent.options.seed,
            "negativePrompt": parent.options.negative_prompt,
            "context": parent.options.context,
            "maskImageId": parent.options.mask.id if parent.options.mask else None,
            "feather": parent.options.feather,
            "keepOutside": parent.options.keep_outside,
        },
        "outputs": [_facts_of_output(output) for output in parent.outputs],
        "createdAt": _iso(parent.created_at),
        "updatedAt": _iso(parent.updated_at),
        "completedAt": _iso(parent.completed_at),
    }


def images_of(parent: Parent) -> Iterator[Image]:
    """All images that it refers to or has made. One may come several times."""
    yield from (reference.image for reference in parent.references)
    if parent.options.mask is not None:
        yield parent.options.mask
    for output in parent.outputs:
        yield from (reference.image for reference in output.references)
        yield from output.images


def _facts_of_output(output: Output) -> Facts:
    error, usage, drift = output.error, output.usage, output.drift
    return {
        "id": output.id,
        "slot": output.slot,
        "model": output.model_id,
        "requestedModel": output.requested_model_id,
        "status": output.status,
        "attempt": output.attempt,
        "chosen": output.chosen,
        "waits": output.waits,
        "images": [image.id for image in output.images],
        "references": _facts_of_references(output.references),
        "text": output.text,
        "error": {"code": error.code, "retryable": error.retryable} if error else None,
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
        }
        if usage
        else None,
        "drift": {"changed": drift.changed, "outsideMask": drift.outside_mask} if drift else None,
        "provider": output.provider,
        "quality": output.quality,
        "size": output.size,
        "creditsCharged": output.credits_charged,
        "queuedAt": _iso(output.queued_at),
        "startedAt": _iso(output.started_at),
        "completedAt": _iso(output.completed_at),
    }


def _facts_of_references(references: Iterable[Reference]) -> list[Facts]:
    return [{"origin": reference.origin, "imageId": reference.image.id} for reference in references]


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
