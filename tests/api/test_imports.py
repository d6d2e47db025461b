"""Imports: an export is imported unchanged with new ids; any other file is refused."""

import asyncio
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import pytest
from PIL import Image

from domain.services import imports
from tests.api.jobs import ARCHIVE, EXPORT, EXPORT_VIEWER, IMPORT, NODE, ended
from tests.api.posts import CANCEL_POST, POST, generate, regenerate
from tests.api.posts import ended as post_ended
from tests.api.test_albums import create as create_album
from tests.api.test_choices import choose
from tests.api.test_exports import collection
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE_IMAGES,
    DELETE_VIEWER,
    GALLERY,
    TURN,
    codes,
    conversation_with,
    samples,
    send,
)
from tests.uploads import (
    a_picture,
    complete_or_refuse,
    create_or_refuse,
    declared,
    sent,
    uploaded,
)

READ: Final = (
    """
query($id: ID!) { conversation(id: $id) {
  title aspectRatio resolution turnCount createdAt sourceImage { width height }
  turns { nodes { ...Turn chosenOutput { model { id } } options { mask { width height } } outputs {
    drift { changed outsideMask } creditsCharged images {
    prompt favourite model { id } madeFrom { id } turn { id }
    provenance { digitalSourceType }
  } } } }
} }
"""
    + TURN
)


ALL: Final = (
    """
{ viewer {
  conversations { nodes { id } }
  images(first: 50) { nodes { id origin prompt model { id } madeFrom { id } } }
  posts { nodes {
    ...Post image { id post { id } }
    outputs { images { prompt } } references { image { contentType } }
  } }
  albums { nodes { id title createdAt images { nodes { id origin } } } }
} }
"""
    + POST
)
RETRY: Final = """
mutation($id: ID!) { retryOutput(input: {outputId: $id}) { output { id } userErrors { code } } }
"""


async def exported(client: GraphQLClient, mutation: str = EXPORT, **variables: Any) -> bytes:
    (payload,) = (await client(mutation, **variables)).values()
    export = await ended(client, payload["export"])
    return (await client.http.get(export["url"])).content


async def import_or_refuse(client: GraphQLClient, data: bytes) -> Data:
    upload = await sent(client, data, ARCHIVE, purpose="IMPORT")
    payload: Data = (await client(IMPORT, id=upload["id"]))["importConversation"]
    return payload


async def imported(client: GraphQLClient, data: bytes) -> Data:
    payload = await import_or_refuse(client, data)
    assert payload["userErrors"] == []
    job = await ended(client, payload["import"])
    assert (job["status"], job["error"]) == ("COMPLETED", None)
    return job


def without_ids(value: Any) -> Any:
    """What is equal in an original and its import."""
    changing = ("id", "url", "urlExpiresAt", "byteSize", "thumbhash", "updatedAt", "creditsCharged")
    if isinstance(value, dict):
        return {name: without_ids(inner) for name, inner in value.items() if name not in changing}
    return [without_ids(one) for one in value] if isinstance(value, list) else value


def a_mask() -> bytes:
    """Of a square: its middle may change."""
    written = io.BytesIO()
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (64, 64, 192, 192))
    mask.save(written, "PNG")
    return written.getvalue()


async def test_an_imported_conversation_equals_the_exported_one(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    """Also to another viewer."""
    manual = (await samples(client))[0]["id"]
    source = (await uploaded(client, a_picture((256, 256))))["id"]
    mask = (await uploaded(client, a_mask()))["id"]
    done = await conversation_with(
        client,
        sourceImageId=source,
        manualReferenceIds=[manual],
        mask={"imageId": mask, "feather": 3},
        userMessage="Ébène 狐",
        selectedModels=["local-silver", "rehearsal-fails"],
    )
    conversation_id = done["conversation"]["id"]
    await conversation_with(client)
    await client(
        "mutation($id: ID!) { cancelTurn(input: {turnId: $id}) { turn { id } } }",
        id=(await send(client, conversation_id))["turn"]["id"],
    )
    await choose(client, done["turn"]["outputs"][0]["id"])
    original = (await client(READ, id=conversation_id))["conversation"]
    data = await exported(client, id=conversation_id)
    other = darkroom.client()
    before = (await other("{ viewer { credits { balance reserved } } }"))["viewer"]

    job = await imported(other, data)

    assert job["conversation"]["id"] != conversation_id
    copy = (await other(READ, id=job["conversation"]["id"]))["conversation"]
    assert without_ids(copy) == without_ids(original)
    assert (await other("{ viewer { credits { balance reserved } } }"))["viewer"] == before
    made = copy["turns"]["nodes"][0]["outputs"][0]["images"][0]
    assert copy["turns"]["nodes"][0]["chosenOutput"] is not None
    assert made["turn"]["id"] == copy["turns"]["nodes"][0]["id"]
    assert copy["turns"]["nodes"][0]["options"]["mask"]
    assert copy["turns"]["nodes"][0]["outputs"][0]["drift"]["outsideMask"] is not None
    before_it = original["turns"]["nodes"][0]["outputs"][0]["images"][0]["madeFrom"]
    assert len(made["madeFrom"]) == len(before_it) > 0
    image = await other.http.get(made["url"])
    assert image.headers["content-type"] == made["contentType"]
    # A choice is moved like any other, and counts as none: nothing was made here.
    first = copy["turns"]["nodes"][0]["outputs"][0]
    await choose(other, first["id"], chosen=False)
    stats = (await other("{ viewer { modelStats(days: 366) { chosen } } }"))["viewer"]
    assert stats["modelStats"] == []
    # It continues like any other.
    sent_turn = await send(other, job["conversation"]["id"], selectedModels=["local-silver"])
    assert sent_turn["turn"]["turnIndex"] == 2
    found = await other('{ viewer { conversations(search: "ebene") { nodes { id } } } }')
    assert [one["id"] for one in found["viewer"]["conversations"]["nodes"]] == [
        job["conversation"]["id"]
    ]


async def test_all_conversations_of_a_viewer_are_imported(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    unneeded = [one["id"] for one in await samples(client)]
    await client(DELETE_IMAGES, ids=unneeded)  # each is decoded in a process of its own
    for text in ("one", "two"):
        await conversation_with(client, userMessage=text)
    await uploaded(client)
    data = await exported(client, EXPORT_VIEWER)
    other = darkroom.client()

    await imported(other, data)

    viewer = (await other("{ viewer { conversations { nodes { title } } } }"))["viewer"]
    assert sorted(one["title"] for one in viewer["conversations"]["nodes"]) == ["one", "two"]
    images = (await other(GALLERY, first=100))["viewer"]["images"]["nodes"]
    origins = [one["origin"] for one in images if one["origin"] != "SAMPLE"]
    assert sorted(origins) == ["OUTPUT", "OUTPUT", "UPLOAD"]


async def test_posts_and_albums_are_imported_without_conversations(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    unneeded = [one["id"] for one in await samples(client)]
    await client(DELETE_IMAGES, ids=unneeded)
    first = await uploaded(client)
    post = await post_ended(
        client,
        await generate(
            client,
            manualReferenceIds=[first["id"]],
            selectedModels=["local-silver", "rehearsal-fails"],
        ),
    )
    silent = await generate(client, captionModel="rehearsal-caption-hangs")
    await client(CANCEL_POST, id=silent["id"])
    images = [post["image"]["id"], first["id"]]
    assert (await create_album(client, "Soap", imageIds=images))["userErrors"] == []
    original = (await client(ALL))["viewer"]
    data = await exported(client, EXPORT_VIEWER)
    other = darkroom.client()
    await other(DELETE_IMAGES, ids=[one["id"] for one in await samples(other)])

    job = await imported(other, data)

    assert job["conversation"] is None
    copy = (await other(ALL))["viewer"]
    assert without_ids(copy) == without_ids(original)
    [_, again] = copy["posts"]["nodes"]
    assert again["id"] != post["id"]
    assert again["image"]["post"]["id"] == again["id"]
    # It continues like any other.
    retried = await other(RETRY, id=again["outputs"][1]["id"])
    assert retried["retryOutput"]["userErrors"] == []
    [waiting, _] = copy["posts"]["nodes"]
    assert (await regenerate(other, waiting, captionModel="local-writer"))["status"]


async def test_an_upload_is_imported_once(client: GraphQLClient) -> None:
    done = await conversation_with(client)
    data = await exported(client, id=done["conversation"]["id"])
    upload = await sent(client, data, ARCHIVE, purpose="IMPORT")

    asked = [client(IMPORT, id=upload["id"]) for _ in range(3)]
    first, *others = [one["importConversation"]["import"] for one in await asyncio.gather(*asked)]
    assert {one["id"] for one in others} == {first["id"]}
    done_once = await ended(client, first)
    second = (await client(IMPORT, id=upload["id"]))["importConversation"]["import"]

    assert second == done_once


@pytest.mark.usefixtures("hasty")
async def test_another_process_finishes_an_interrupted_import(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    data = await exported(client, id=done["conversation"]["id"])
    upload = await sent(client, data, ARCHIVE, purpose="IMPORT")
    async with collection(darkroom, "imports") as imports:
        job = (await client(IMPORT, id=upload["id"]))["importConversation"]["import"]
        job = await ended(client, job)
        # The images are there, the conversation is not.
        async with collection(darkroom, "conversations") as conversations:
            await conversations.delete_one({"_id": job["conversation"]["id"]})
        path = (
            darkroom.settings.data_dir
            / "objects"
            / (await imports.find_one({"_id": job["id"]}))["key"]
        )
        path.write_bytes(data)
        images = (await client(GALLERY, first=100))["viewer"]["images"]["nodes"]
        left = {"status": "GENERATING", "leaseUntil": datetime.now(UTC), "conversationId": None}
        await imports.update_one({"_id": job["id"]}, {"$set": left})

        again = await ended(client, (await client(NODE, id=job["id"]))["node"])

    assert again["conversation"] == job["conversation"]
    found = (await client(GALLERY, first=100))["viewer"]["images"]["nodes"]
    assert [one["id"] for one in found] == [one["id"] for one in images]


@pytest.mark.parametrize("finished", [True, False], ids=("finished", "left in the middle"))
async def test_an_import_is_deleted_with_its_viewer(
    start_darkroom: StartDarkroom, finished: bool
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    done = await conversation_with(client)
    job = await imported(client, await exported(client, id=done["conversation"]["id"]))
    if not finished:  # its turns are there, the conversation is not
        async with collection(darkroom, "conversations") as conversations:
            await conversations.delete_one({"_id": job["conversation"]["id"]})

    await client(DELETE_VIEWER, id=(await client("{ viewer { id } }"))["viewer"]["id"])

    for name in ("imports", "exports", "conversations", "turns", "images"):
        async with collection(darkroom, name) as documents:
            assert await documents.count_documents({}) == 0, name


# ---------------------------------------------------------------- what is refused


Change = Callable[[dict[str, bytes]], None]


def edit(name: str, change: Callable[[Any], None]) -> Change:
    """Change the JSON of the first entry whose name ends so."""

    def apply(entries: dict[str, bytes]) -> None:
        found = next(one for one in entries if name in one)
        value = json.loads(entries[found])
        change(value)
        entries[found] = json.dumps(value).encode()

    return apply


def image_name(entries: dict[str, bytes]) -> str:
    return next(one for one in entries if one.startswith("images/img_"))


def put(name: str, data: bytes) -> Change:
    return lambda entries: entries.__setitem__(name, data)


def change_image(make: Callable[[bytes], bytes], *, honest: bool) -> Change:
    """Other bytes for an image; with their digest where that is honest."""

    def apply(entries: dict[str, bytes]) -> None:
        name = image_name(entries)
        entries[name] = make(entries[name])
        if honest:

            def put_digest(part: Any) -> None:
                for image in part["images"]:
                    if image["file"] == name:
                        image["sha256"] = sha256(entries[name]).hexdigest()

            edit("images/part-", put_digest)(entries)

    return apply


def turn(change: Callable[[Any], None]) -> Change:
    return edit("turns-", lambda part: change(part["turns"][0]))


def refer_too_often(turn: Data) -> None:
    """Each list could be as long."""
    output = turn["outputs"][0]
    reference = {"origin": "MANUAL", "imageId": output["images"][0]}
    turn["references"] = output["references"] = [reference] * 200


def name_empty_part_twice(entries: dict[str, bytes]) -> None:
    """It could be large, and be named thousands of times."""
    name = "images/part-0999.json"
    entries[name] = b'{"images":[]}'
    edit("manifest", lambda one: one["images"].extend([name] * 2))(entries)


def add_number(number: bytes) -> Change:
    """One that nothing reads, in a manifest that is otherwise valid."""

    def apply(entries: dict[str, bytes]) -> None:
        entries["manifest.json"] = entries["manifest.json"][:-1] + b',"unread":' + number + b"}"

    return apply


HOSTILE: Final[dict[str, Change]] = {
    "a path that leads out": put("../../etc/passwd", b"x"),
    "an absolute path": put("/etc/passwd", b"x"),
    "a backslash": put("images\\x.png", b"x"),
    "an entry of another kind": put("images/run.exe", b"x"),
    "an archive inside": put("images/inner.zip", b"PK"),
    "a folder": put("images/", b""),
    "no manifest": lambda entries: entries.pop("manifest.json"),  # type: ignore[dict-item]
    "a manifest that is no JSON": put("manifest.json", b"{"),
    "a manifest that is a list": put("manifest.json", b"[]"),
    "JSON that is very deep": put("manifest.json", b"[" * 100_000),
    "a number that is not finite": put("manifest.json", b'{"format":NaN}'),
    "another version": edit("manifest", lambda one: one.update(version=2)),
    "a truth for a version": edit("manifest", lambda one: one.update(version=True)),
    "no conversations": edit("manifest", lambda one: one.pop("conversations")),
    "a part of posts that is not there": edit(
        "manifest", lambda one: one.update(posts=["posts/part-0001.json"])
    ),
    "a conversation twice": edit(
        "manifest", lambda one: one.update(conversations=one["conversations"] * 2)
    ),
    "an id that is none": edit(
        "manifest", lambda one: one["conversations"][0].update(id={"$gt": ""})
    ),
    "a title that is too long": edit(
        "manifest", lambda one: one["conversations"][0].update(title="x" * 121)
    ),
    "a part that is not there": edit(
        "manifest", lambda one: one["images"].append("images/part-9999.json")
    ),
    "an empty part twice": name_empty_part_twice,
    "a part of turns twice": edit(
        "manifest",
        lambda one: one["conversations"].append({**one["conversations"][0], "id": "another"}),
    ),
    "a file of two images": edit(
        "images/part-",
        lambda one: one["images"].append({**one["images"][0], "id": "another"}),
    ),
    "a long integer": add_number(b"1" * 30),
    "a long fraction": add_number(b"0." + b"1" * 30),
    "an image twice": edit("images/part-", lambda one: one.update(images=one["images"] * 2)),
    "a file of another name": edit(
        "images/part-", lambda one: one["images"][0].update(file="../../x.png")
    ),
    "no digest": edit("images/part-", lambda one: one["images"][0].update(sha256="")),
    "another image than was exported": change_image(lambda _: a_picture(), honest=False),
    "a turn twice": edit("turns-", lambda one: one.update(turns=one["turns"] * 2)),
    "no turns": edit("turns-", lambda one: one.update(turns=[])),
    "no outputs": turn(lambda one: one.update(outputs=[])),
    "two outputs of one slot": turn(lambda one: one.update(outputs=one["outputs"] * 2)),
    "two chosen outputs": turn(
        lambda one: one.update(
            outputs=[{**one["outputs"][0], "slot": slot, "chosen": True} for slot in (1, 2)]
        )
    ),
    "a message that is too long": turn(lambda one: one.update(userMessage="x" * 2_001)),
    "a NUL in a message": turn(lambda one: one.update(userMessage="a\x00b")),
    "half a letter": turn(lambda one: one.update(userMessage="\ud800")),
    "an operator for a text": turn(lambda one: one.update(userMessage={"$set": 1})),
    "too many images of a turn": turn(refer_too_often),
    "a time that is none": turn(lambda one: one.update(createdAt="0001-01-01T00:00:00+14:00")),
    "a status that is none": turn(lambda one: one["outputs"][0].update(status="DONE")),
    "a number that is too large": turn(lambda one: one["outputs"][0].update(attempt=2**31)),
    "a reason that is none": turn(
        lambda one: one["outputs"][0].update(status="FAILED", error={"code": "X"})
    ),
}


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes], **options: Any) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


@pytest.fixture(scope="module")
async def export(darkroom: Darkroom) -> bytes:
    client = darkroom.client()
    done = await conversation_with(client)
    return await exported(client, id=done["conversation"]["id"])


async def test_a_modified_export_is_refused(client: GraphQLClient, export: bytes) -> None:
    assert (await import_or_refuse(client, zipped(entries_of(export))))["userErrors"] == []
    for name, change in HOSTILE.items():
        entries = entries_of(export)
        change(entries)

        payload = await import_or_refuse(client, zipped(entries))

        assert codes(payload) == [("EXPORT_INVALID", "uploadId")], name
        assert payload["import"] is None


def link(data: bytes) -> bytes:
    entries = entries_of(data)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, inner in entries.items():
            about = zipfile.ZipInfo(name)
            about.create_system = 3
            about.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(about, inner)
    return written.getvalue()


def with_names_twice(data: bytes) -> bytes:
    written = io.BytesIO(data)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(written, "a") as archive,
    ):
        archive.writestr("manifest.json", archive.read("manifest.json"))
    return written.getvalue()


def bomb(data: bytes) -> bytes:
    entries = entries_of(data)
    entries[image_name(entries)] = b"\x00" * 30_000_000
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inner in entries.items():
            archive.writestr(name, inner)
    return written.getvalue()


def with_a_false_size(data: bytes) -> bytes:
    """The directory says that an entry is smaller than it is."""
    changed = bytearray(zipped(entries_of(data)))
    at = changed.rindex(b"PK\x01\x02")
    struct.pack_into("<I", changed, at + 24, 1)
    return bytes(changed)


def encrypted(data: bytes) -> bytes:
    changed = bytearray(data)
    at = changed.rindex(b"PK\x01\x02")
    changed[at + 8] |= 1
    return bytes(changed)


def bomb_of_text(data: bytes) -> bytes:
    part = json.dumps({"images": []}).ljust(7_000_000).encode()
    written = io.BytesIO(data)
    with zipfile.ZipFile(written, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/part-0999.json", part)
    return written.getvalue()


def with_too_many_values(data: bytes) -> bytes:
    """They would take a hundred times the memory of an honest manifest."""
    entries = entries_of(data)
    entries["manifest.json"] = entries["manifest.json"][:-1] + b',"x":[%b1]}' % (b"[]," * 250_000)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, inner in entries.items():
            archive.writestr(name, inner)
    return written.getvalue()


MAKE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "no ZIP at all": lambda _: a_picture(),
    "the beginning of one": lambda data: data[: len(data) // 2],
    "the end of one": lambda data: data[len(data) // 2 :],
    "an empty one": lambda _: zipped({}),
    "something in the middle": lambda data: data[:300] + b"x" * 50 + data[350:],
    "a link": link,
    "a name twice": with_names_twice,
    "a bomb": bomb,
    "a false size": with_a_false_size,
    "a bomb of text": bomb_of_text,
    "too many values": with_too_many_values,
    "an encrypted entry": encrypted,
    "a directory that is too large": lambda data: (
        data[:-10] + struct.pack("<II", 2**31, 0) + b"\x00\x00"
    ),
}


async def test_a_file_that_is_not_an_export_is_refused(
    client: GraphQLClient, export: bytes
) -> None:
    for name, make in MAKE.items():
        payload = await import_or_refuse(client, make(export))

        assert codes(payload) == [("EXPORT_INVALID", "uploadId")], name


async def test_an_export_that_takes_long_to_check_is_checked_by_its_job(
    client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_CHECK_SECONDS", -1.0)

    payload = await import_or_refuse(client, zipped({}))
    job = await ended(client, payload["import"])

    assert (job["status"], job["error"]["code"]) == ("FAILED", "EXPORT_INVALID")


async def test_an_invalid_image_in_an_export_fails_the_import(
    client: GraphQLClient, export: bytes
) -> None:
    """It is decoded as uploads are, apart from all else."""
    entries = entries_of(export)
    change_image(lambda _: b"<svg onload='alert(1)'/>" * 20, honest=True)(entries)

    payload = await import_or_refuse(client, zipped(entries))
    job = await ended(client, payload["import"])

    assert (job["status"], job["error"]["code"]) == ("FAILED", "EXPORT_INVALID")
    assert job["conversation"] is None
    left = (await client(ALL))["viewer"]
    assert all(left[name]["nodes"] == [] for name in ("conversations", "posts", "albums"))
    assert [one["origin"] for one in left["images"]["nodes"] if one["origin"] != "SAMPLE"] == []


async def test_imports_have_their_own_size_limits_and_types(start_darkroom: StartDarkroom) -> None:
    client = (await start_darkroom(max_import_bytes=1000, max_upload_bytes=500)).client()
    archive, picture = b"x" * 900, a_picture()

    refused = await create_or_refuse(
        client,
        declared(b"x" * 1001, ARCHIVE, purpose="IMPORT"),
        declared(picture, "image/png", purpose="IMPORT"),
        declared(archive, ARCHIVE),
    )
    image = await sent(client, picture, purpose="IMAGE")
    unsent = await create_or_refuse(client, declared(archive, ARCHIVE, purpose="IMPORT"))
    form = declared(archive, ARCHIVE, purpose="IMPORT", method="POST")
    by_form = (await create_or_refuse(client, form))["uploads"][0]

    assert codes(refused) == [
        ("UPLOAD_TOO_LARGE", "files.0.byteSize"),
        ("UPLOAD_TYPE_UNSUPPORTED", "files.1.contentType"),
        ("UPLOAD_TOO_LARGE", "files.2.byteSize"),
        ("UPLOAD_TYPE_UNSUPPORTED", "files.2.contentType"),
    ]
    assert by_form["method"] == "PUT"
    [upload] = unsent["uploads"]
    for upload_id, code in (
        (image["id"], "UPLOAD_TYPE_UNSUPPORTED"),
        (upload["id"], "UPLOAD_MISSING"),
        ("upl_nothing", "NOT_FOUND"),
    ):
        payload = (await client(IMPORT, id=upload_id))["importConversation"]
        assert codes(payload) == [(code, "uploadId")]
    assert codes(await complete_or_refuse(client, upload["id"])) == [
        ("UPLOAD_TYPE_UNSUPPORTED", "uploadId")
    ]


async def test_an_upload_of_another_viewer_cannot_be_imported(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    upload = await sent(client, b"x" * 10, ARCHIVE, purpose="IMPORT")

    payload = (await darkroom.client()(IMPORT, id=upload["id"]))["importConversation"]

    assert codes(payload) == [("NOT_FOUND", "uploadId")]
