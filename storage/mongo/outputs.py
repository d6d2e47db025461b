"""Outputs and references as they stand inside a turn's document."""

from collections.abc import Iterable

from domain.errors import GenerationErrorCode
from domain.ids import TurnId
from domain.outputs import GenerationError, Output, OutputStatus, Preview, Run, Usage
from domain.references import Reference, ReferenceOrigin
from domain.turns import PlannedOutput
from storage.mongo.collections import Document
from storage.mongo.images import image_document, read_image


def queued_output(planned: PlannedOutput) -> Document:
    """An output that waits for its first worker, whichever attempt it is."""
    return {
        "model": planned.model.id,
        "requestedModel": planned.requested_model_id,
        "status": OutputStatus.QUEUED.value,
        "progress": None,
        "queuePosition": None,
        "preview": None,
        "images": [],
        "references": reference_documents(planned.references),
        "text": None,
        "usage": None,
        "error": None,
        "runs": [],
        "creditsReserved": planned.credits,
        "creditsCharged": 0,
        "leaseUntil": None,
        "notBefore": None,
        "deadlineSeconds": planned.model.deadline.total_seconds(),
        "deadlineAt": None,
        "startedAt": None,
        "completedAt": None,
    }


def read_output(turn_id: TurnId, document: Document) -> Output:
    preview, error, usage = document["preview"], document["error"], document["usage"]
    return Output(
        turn_id=turn_id,
        slot=document["slot"],
        model_id=document["model"],
        requested_model_id=document["requestedModel"],
        status=OutputStatus(document["status"]),
        attempt=document["attempt"],
        fence=document["fence"],
        version=document["version"],
        progress=document["progress"],
        queue_position=document["queuePosition"],
        preview=preview
        and Preview(preview["index"], preview["key"], preview["width"], preview["height"]),
        images=tuple(read_image(image) for image in document["images"]),
        references=read_references(document["references"]),
        text=document["text"],
        usage=usage and Usage(usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]),
        error=error
        and GenerationError(GenerationErrorCode(error["code"]), retryable=error["retryable"]),
        runs=tuple(map(read_run, document.get("runs", ()))),
        credits_reserved=document.get("creditsReserved", 0),
        credits_charged=document.get("creditsCharged", 0),
        queued_at=document["queuedAt"],
        started_at=document["startedAt"],
        completed_at=document["completedAt"],
    )


def read_run(document: Document) -> Run:
    return Run(
        provider=document["provider"],
        tries=document["tries"],
        rejected=document["refused"],
        job=document["job"],
    )


def reference_documents(references: Iterable[Reference]) -> list[Document]:
    return [
        {"origin": reference.origin.value, "image": image_document(reference.image)}
        for reference in references
    ]


def read_references(documents: Iterable[Document]) -> tuple[Reference, ...]:
    return tuple(
        Reference(read_image(document["image"]), ReferenceOrigin(document["origin"]))
        for document in documents
    )


def preview_document(preview: Preview) -> Document:
    return {
        "index": preview.index,
        "key": preview.key,
        "width": preview.width,
        "height": preview.height,
    }


def usage_document(usage: Usage | None) -> Document | None:
    if usage is None:
        return None
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
    }
