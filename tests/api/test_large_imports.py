"""An export of thousands of images is imported in bounded memory, and the same comes out again.

Run by `make resilience`: each image is decoded in a process of its own.
"""

import json
import os
import sys
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any, Final

import pytest

from domain.batches import in_batches
from domain.ids import new_image_id
from tests.api.jobs import ARCHIVE, IMPORT, ended
from tests.api.test_imports import entries_of, exported, zipped
from tests.clients import Data
from tests.conftest import StartDarkroom
from tests.memory import MemoryGrowth
from tests.operations import conversation_with
from tests.resilience.scale import WHY_NOT, load_factor
from tests.uploads import sent
from tests.waits import PATIENCE_SECONDS

IMAGES: Final = int(os.environ.get("DARKROOM_TEST_EXPORTED", "0"))
SECONDS_PER_IMAGE: Final = 0.6
"""Twice the processor time of one, for each process that wants to run."""
MEMORY_BYTES: Final = 40_000_000
MEMORY_BYTES_PER_IMAGE: Final = 20_000
"""For the facts of an image and of its turn, of which a job holds a conversation's."""
CHANGING: Final = {"id", "outputId", "file", "sha256", "byteSize", "updatedAt", "creditsCharged"}


@pytest.mark.skipif(not IMAGES, reason=WHY_NOT)
@pytest.mark.timeout(0)
async def test_thousands_of_images_are_imported_as_they_were_exported(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    data = multiplied(await exported(client, id=done["conversation"]["id"]))
    other = darkroom.client()
    upload = await sent(other, data, ARCHIVE, purpose="IMPORT")

    within = PATIENCE_SECONDS + IMAGES * SECONDS_PER_IMAGE * load_factor()
    started, growth = monotonic(), MemoryGrowth()
    payload = (await other(IMPORT, id=upload["id"]))["importConversation"]
    assert payload["userErrors"] == []
    job = await ended(other, payload["import"], within=within)
    peak = growth.peak

    sys.stderr.write(
        f"\nimport of {IMAGES} images: {monotonic() - started:.0f} s, "
        f"most memory +{peak / 1e6:.1f} MB\n"
    )
    assert (job["status"], job["error"]) == ("COMPLETED", None)
    again = await exported(other, id=job["conversation"]["id"])
    assert content_of(again) == content_of(data)
    assert peak < MEMORY_BYTES + IMAGES * MEMORY_BYTES_PER_IMAGE


def multiplied(data: bytes) -> bytes:
    """The export of one turn with one image, with as many of them as are wanted. Each image is made
    from the one before it.
    """
    entries = entries_of(data)
    manifest = json.loads(entries["manifest.json"])
    [conversation] = manifest["conversations"]
    [turn], images = turns_of(entries, conversation), images_of(entries, manifest)
    image = images[turn["outputs"][0]["images"][0]]
    ids = [new_image_id() for _ in range(IMAGES)]
    turns = [a_turn(turn, index, image_id) for index, image_id in enumerate(ids)]
    facts = [
        {
            **image,
            "id": image_id,
            "file": image["file"].replace(image["id"], image_id),
            "outputId": turns[index]["outputs"][0]["id"],
            "madeFrom": ids[max(0, index - 1) : index],
        }
        for index, image_id in enumerate(ids)
    ]
    turn_parts = in_parts(f"conversations/{conversation['id']}/turns", "turns", turns)
    image_parts = in_parts("images/part", "images", facts)
    conversation["turns"], manifest["images"] = [*turn_parts], [*image_parts]
    written = {"manifest.json": json.dumps(manifest).encode(), **turn_parts, **image_parts}
    return zipped({**written, **{one["file"]: entries[image["file"]] for one in facts}})


def a_turn(turn: Data, index: int, image_id: str) -> Data:
    [output] = turn["outputs"]
    numbered = f"{output['id'][:-6]}{index:04d}_1"
    return {
        **turn,
        "turnIndex": index,
        "userMessage": f"Boat {index}",
        "outputs": [{**output, "id": numbered, "images": [image_id]}],
    }


def in_parts(begin: str, name: str, facts: list[Data]) -> dict[str, bytes]:
    return {
        f"{begin}-{number:04d}.json": json.dumps({name: some}).encode()
        for number, some in enumerate(in_batches(facts, 50), 1)
    }


def turns_of(entries: Mapping[str, bytes], conversation: Data) -> list[Data]:
    return [one for name in conversation["turns"] for one in json.loads(entries[name])["turns"]]


def images_of(entries: Mapping[str, bytes], manifest: Data) -> dict[str, Data]:
    parts = [json.loads(entries[name])["images"] for name in manifest["images"]]
    return {one["id"]: one for part in parts for one in part}


def content_of(data: bytes) -> list[Data]:
    """What is equal in an export and in that of its import: each turn with its image."""
    entries = entries_of(data)
    manifest = json.loads(entries["manifest.json"])
    [conversation] = manifest["conversations"]
    images, turns = images_of(entries, manifest), turns_of(entries, conversation)
    made = [turn["outputs"][0].pop("images")[0] for turn in turns]
    for turn, image_id in zip(turns, made, strict=True):
        image = turn["image"] = images[image_id]
        image["madeFrom"] = [made.index(one) for one in image["madeFrom"]]
    return [without(CHANGING, turn) for turn in turns]


def without(names: Collection[str], value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without(names, one) for name, one in value.items() if name not in names}
    return [without(names, one) for one in value] if isinstance(value, list) else value
