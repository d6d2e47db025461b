"""Images: each record was delivered once and has all of its bytes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from domain.images import rendition_key
from tests.clients import Data
from tests.resilience.evidence import Stored

SAMPLES_PER_VIEWER: Final = 4


def against_images(stored: Stored) -> Iterator[str]:
    landed = {
        image["id"]: (f"{turn['_id']}/{output['slot']}", turn, image)
        for turn in stored.parents
        for output in turn["outputs"]
        for image in output["images"]
    }
    if len(landed) != sum(len(o["images"]) for turn in stored.parents for o in turn["outputs"]):
        yield "an image stands in two outputs"
    made = [record for record in stored.images if record["origin"] in ("OUTPUT", "POST")]
    referred_to = _referred_to(stored)
    counts = Counter(record["_id"] for record in made)
    for image_id in landed.keys() - counts.keys():
        yield f"{landed[image_id][0]} landed {image_id}, which has no record"
    for record in made:
        if record["_id"] not in landed:
            # Its conversation may have been deleted, and another one still uses it.
            if record["_id"] not in referred_to:
                yield f"{record['_id']} of {record['outputId']} has a record, but did not land"
            continue
        if counts[record["_id"]] > 1:
            yield f"{record['_id']} has {counts[record['_id']]} records"
        name, turn, image = landed[record["_id"]]
        same = {key: record[key] for key in image if key != "id"}
        if {"id": record["_id"], **same} != image or record["ownerId"] != turn["ownerId"]:
            yield f"{name} and the record of {record['_id']} differ"
        if record["prompt"] != turn["userMessage"]:
            yield f"{record['_id']} does not tell what it was asked with"
    for image_id in referred_to - {record["_id"] for record in stored.images}:
        yield f"{image_id} is referred to, and has no record"


def against_bytes(stored: Stored) -> Iterator[str]:
    for record in stored.images:
        for key in _keys_of(record):
            if key not in stored.objects:
                yield f"{record['_id']} has a record, but no bytes at {key}"
        size = stored.objects.get(record["key"], record["byteSize"])
        if size != record["byteSize"]:
            yield f"{record['_id']} has {size} bytes of {record['byteSize']}"


def against_samples(stored: Stored) -> Iterator[str]:
    samples = Counter(record["ownerId"] for record in stored.images if record["origin"] == "SAMPLE")
    for viewer_id, count in samples.items():
        if count != SAMPLES_PER_VIEWER:
            yield f"{viewer_id} was given {count} samples"
    for viewer_id in samples.keys() - {viewer["_id"] for viewer in stored.viewers}:
        yield f"{viewer_id} was given samples, and was never here"


def orphans(stored: Stored) -> dict[str, int]:
    """Objects that nothing refers to, with their sizes. Marks are not to be referred to."""
    wanted = set(_keys_referred_to(stored))
    return {
        key: size
        for key, size in stored.objects.items()
        if key not in wanted and not key.startswith("owners/")
    }


def _referred_to(stored: Stored) -> set[str]:
    sources = {one["sourceImage"]["id"] for one in stored.conversations if one["sourceImage"]}
    references = {
        reference["image"]["id"] for turn in stored.parents for reference in turn["references"]
    }
    return sources | references


def _keys_referred_to(stored: Stored) -> Iterator[str]:
    for record in stored.images:
        yield from _keys_of(record)
    for turn in stored.parents:
        for output in turn["outputs"]:
            if output["preview"]:
                yield output["preview"]["key"]


def _keys_of(record: Data) -> Sequence[str]:
    widths: list[int] = record["renditionWidths"]
    return [record["key"], *(rendition_key(record["key"], width) for width in widths)]
