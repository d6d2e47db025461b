"""What is in an export: the entries of its ZIP, as plain values for JSON.

manifest.json                     format, version, and the names of the parts below
images/part-0001.json             facts of up to 100 images, with the names of their files
images/img_01jd….png              an original, byte for byte
conversations/conv_01jd…/turns-0001.json    up to 50 turns
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from domain.conversations import Conversation
from domain.images import EXTENSIONS, Image, ImageRecord
from domain.outputs import Output
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


def manifest(
    conversations: Sequence[Facts], image_parts: Sequence[str], *, exported_at: datetime
) -> Facts:
    return {
        "format": FORMAT,
        "version": VERSION,
        "exportedAt": exported_at.isoformat(),
        "conversations": conversations,
        "images": image_parts,
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
    """`sha256` None: its bytes are not there, and so is no file."""
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
    return {
        "id": turn.id,
        "turnIndex": turn.turn_index,
        "userMessage": turn.user_message,
        "selectedModels": list(turn.selected_model_ids),
        "references": _facts_of_references(turn.references),
        "previousWereNamed": turn.previous_were_named,
        "aspectRatio": str(turn.aspect_ratio),
        "resolution": turn.resolution,
        "options": {
            "imagesPerModel": turn.options.images_per_model,
            "previews": turn.options.previews,
            "quality": turn.options.quality,
            "format": turn.options.format,
            "width": turn.options.width,
            "height": turn.options.height,
            "seed": turn.options.seed,
            "negativePrompt": turn.options.negative_prompt,
            "context": turn.options.context,
            "maskImageId": turn.options.mask.id if turn.options.mask else None,
            "feather": turn.options.feather,
            "keepOutside": turn.options.keep_outside,
        },
        "status": turn.status,
        "outputs": [_facts_of_output(output) for output in turn.outputs],
        "createdAt": _iso(turn.created_at),
        "updatedAt": _iso(turn.updated_at),
        "completedAt": _iso(turn.completed_at),
    }


def images_of_turn(turn: Turn) -> Iterator[Image]:
    """All that it refers to or has made. One may come several times."""
    yield from (reference.image for reference in turn.references)
    if turn.options.mask is not None:
        yield turn.options.mask
    for output in turn.outputs:
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
    return [{"origin": one.origin, "imageId": one.image.id} for one in references]


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
