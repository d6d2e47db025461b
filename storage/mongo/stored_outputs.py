"""Outputs as documents, which are stored inside of their parent's."""

from collections.abc import Iterable
from typing import ClassVar

from domain.captions import PlannedCaption
from domain.errors import GenerationErrorCode
from domain.ids import output_id_of
from domain.images import Drift
from domain.outputs import GenerationError, Output, OutputStatus, Preview, Report, Run, Usage
from domain.references import Reference, ReferenceOrigin
from domain.registry import RegisteredModel
from domain.stored import (
    Coded,
    Derived,
    Instant,
    Key,
    Many,
    One,
    Property,
    Stored,
)
from domain.turns import PlannedOutput
from storage.mongo.collections import Document
from storage.mongo.images import StoredImage, image_document


def queued_output(planned: PlannedOutput, *, waits: bool = False) -> Document:
    """An output that waits for its first worker, whichever attempt it is, or for a caption."""
    return {
        **_queued(planned.model, planned.credits),
        "requestedModel": planned.requested_model_id,
        "references": reference_documents(planned.references),
        "waits": waits,
    }


def queued_caption(planned: PlannedCaption) -> Document:
    return _queued(planned.model, planned.credits)


def new_entry(slot: int, queued: Document) -> Document:
    """A queued entry in its first attempt."""
    return {"slot": slot, "attempt": 1, "fence": 0, "version": 1, **queued}


def _queued(model: RegisteredModel, credits: int) -> Document:
    return {
        "model": model.id,
        "requestedModel": model.id,
        "status": OutputStatus.QUEUED.value,
        "progress": None,
        "queuePosition": None,
        "preview": None,
        "images": [],
        "references": [],
        "provider": None,
        "quality": None,
        "size": None,
        "text": None,
        "usage": None,
        "drift": None,
        "error": None,
        "runs": [],
        "creditsReserved": credits,
        "creditsCharged": 0,
        "leaseUntil": None,
        "notBefore": None,
        "deadlineSeconds": model.deadline.total_seconds(),
        "deadlineAt": None,
        "startedAt": None,
        "completedAt": None,
        "waits": False,
    }


class StoredPreview(Stored, Preview):
    __slots__ = ("companion", "record")
    kind = Preview
    fields: ClassVar = {name: Key(name) for name in ("index", "key", "width", "height")}


class StoredUsage(Stored, Usage):
    __slots__ = ("companion", "record")
    kind = Usage
    fields: ClassVar = {
        "input_tokens": Key("inputTokens"),
        "output_tokens": Key("outputTokens"),
        "total_tokens": Key("totalTokens"),
    }


class StoredDrift(Stored, Drift):
    __slots__ = ("companion", "record")
    kind = Drift
    fields: ClassVar = {"changed": Key("changed"), "outside_mask": Key("outsideMask")}


class StoredError(Stored, GenerationError):
    __slots__ = ("companion", "record")
    kind = GenerationError
    fields: ClassVar = {
        "code": Coded("code", GenerationErrorCode),
        "retryable": Key("retryable"),
        "message": Property(("code",)),
    }


def error_document(error: GenerationError) -> Document:
    return {"code": error.code.value, "retryable": error.retryable}


class StoredReference(Stored, Reference):
    __slots__ = ("companion", "record")
    kind = Reference
    fields: ClassVar = {
        "image": One("image", StoredImage),
        "origin": Coded("origin", ReferenceOrigin),
    }


class StoredRun(Stored, Run):
    __slots__ = ("companion", "record")
    kind = Run
    fields: ClassVar = {
        "provider": Key("provider"),
        "tries": Key("tries"),
        "rejected": Key("refused"),
        "job": Key("job"),
        "landed": Key("landed", default=False, required=False),
    }


class StoredOutput(Stored, Output):
    """Its record is inside its parent's, and is given the parent's id."""

    __slots__ = ("companion", "record")
    kind = Output
    fields: ClassVar = {
        "id": Derived(lambda record: output_id_of(record["parentId"], record["slot"]), ("slot",)),
        "parent_id": Key("parentId"),
        "turn_id": Property(("parentId",)),
        "post_id": Property(("parentId",)),
        "slot": Key("slot"),
        "model_id": Key("model"),
        "requested_model_id": Key("requestedModel"),
        "status": Coded("status", OutputStatus),
        "attempt": Key("attempt"),
        "fence": Key("fence"),
        "version": Key("version"),
        "progress": Key("progress"),
        "queue_position": Key("queuePosition"),
        "preview": One("preview", StoredPreview),
        "images": Many("images", StoredImage),
        "references": Many("references", StoredReference),
        "provider": Key("provider", default=None, required=False),
        "quality": Key("quality", default=None, required=False),
        "size": Key("size", default=None, required=False),
        "text": Key("text"),
        "usage": One("usage", StoredUsage),
        "drift": One("drift", StoredDrift),
        "error": One("error", StoredError),
        "waits": Key("waits", default=False, required=False),
        "runs": Derived(lambda record: tuple(map(StoredRun.of, record.get("runs", ()))), ("runs",)),
        "credits_reserved": Key("creditsReserved", default=0, required=False),
        "credits_charged": Key("creditsCharged", default=0, required=False),
        "queued_at": Instant("queuedAt"),
        "started_at": Instant("startedAt"),
        "completed_at": Instant("completedAt"),
        "chosen": Key("chosen", default=False, required=False),
    }


read_run = StoredRun.of


def imported_output(output: Output) -> Document:
    error = output.error
    return {
        "slot": output.slot,
        "attempt": output.attempt,
        "fence": output.fence,
        "version": output.version,
        "model": output.model_id,
        "requestedModel": output.requested_model_id,
        "status": output.status.value,
        "progress": None,
        "queuePosition": None,
        "preview": None,
        "images": [image_document(image) for image in output.images],
        "references": reference_documents(output.references),
        "provider": output.provider,
        "quality": output.quality,
        "size": output.size,
        "drift": _drift_document(output.drift),
        "text": output.text,
        "usage": usage_document(output.usage),
        "error": error and error_document(error),
        "runs": [],
        "creditsReserved": 0,
        "creditsCharged": 0,
        "leaseUntil": None,
        "notBefore": None,
        "deadlineSeconds": 0.0,
        "deadlineAt": None,
        "queuedAt": output.queued_at,
        "startedAt": output.started_at,
        "completedAt": output.completed_at,
        "chosen": output.chosen,
        "waits": output.waits,
    }


def reference_documents(references: Iterable[Reference]) -> list[Document]:
    return [
        {"origin": reference.origin.value, "image": image_document(reference.image)}
        for reference in references
    ]


def preview_document(preview: Preview) -> Document:
    return {
        "index": preview.index,
        "key": preview.key,
        "width": preview.width,
        "height": preview.height,
    }


def report_changes(report: Report) -> Document:
    """The changes that write a report. Its text comes from providers: `$literal` keeps MongoDB from
    evaluating it.
    """
    return {
        "provider": {"$literal": report.provider},
        "quality": {"$literal": report.quality},
        "size": {"$literal": report.size},
        "text": {"$literal": report.text},
        "usage": {"$literal": usage_document(report.usage)},
        "drift": {"$literal": _drift_document(report.drift)},
    }


def _drift_document(drift: Drift | None) -> Document | None:
    if drift is None:
        return None
    return {"changed": drift.changed, "outsideMask": drift.outside_mask}


def usage_document(usage: Usage | None) -> Document | None:
    if usage is None:
        return None
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
    }
