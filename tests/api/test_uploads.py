"""Uploads through the API: presigned, sent as a client sends them, and completed to images."""

import asyncio
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from PIL import Image

from storage.imaging import sandbox
from storage.imaging.containers import content_type_of
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.http import open_http
from tests.operations import (
    DELETE_IMAGE,
    GALLERY,
    codes,
    conversation_with,
    samples,
    send_or_refuse,
    start,
    start_or_refuse,
    until_finished,
)
from tests.resilience.scale import SEED
from tests.storage.heic import heic
from tests.storage.mutants import mutants
from tests.uploads import (
    COMPLETE,
    CREATE,
    a_picture,
    complete,
    complete_or_refuse,
    create,
    create_or_refuse,
    declared,
    send_file,
    sent,
    uploaded,
    with_digest,
)

TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
DAMAGED = 12
"""Each is decoded in a process of its own. tests/storage/test_uploaded_pictures.py has more."""
UNKNOWN = "upl_00000000000000000000000000"
LIMITS = "{ viewer { limits { maxUploadBytes } } }"


async def gallery(client: GraphQLClient, **filters: object) -> list[Data]:
    nodes: list[Data] = (await client(GALLERY, **filters))["viewer"]["images"]["nodes"]
    return nodes


async def fetched(url: str) -> httpx2.Response:
    async with open_http() as http:
        return await http.get(url)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# What is offered


async def test_several_uploads_are_presigned_in_the_order_of_the_files(
    client: GraphQLClient,
) -> None:
    png, jpeg = a_picture(), a_picture(format="JPEG")

    one, two = await create(
        client,
        declared(png, filename="a.png"),
        declared(jpeg, "image/jpeg", method="POST"),
    )

    assert one["method"] == "PUT"
    assert {"name": "Content-Type", "value": "image/png"} in one["headers"]
    assert (one["fields"], one["filename"]) == ([], "a.png")
    assert two["method"] == "POST"
    assert {"name": "Content-Type", "value": "image/jpeg"} in two["fields"]
    assert (two["headers"], two["filename"]) == ([], None)
    left = datetime.fromisoformat(one["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


@pytest.mark.parametrize(
    ("byte_size", "content_type", "expected"),
    [
        (0, "image/png", ("UPLOAD_TOO_LARGE", "files.0.byteSize")),
        (-1, "image/png", ("UPLOAD_TOO_LARGE", "files.0.byteSize")),
        (5_000_001, "image/png", ("UPLOAD_TOO_LARGE", "files.0.byteSize")),
        *(
            (100, content_type, ("UPLOAD_TYPE_UNSUPPORTED", "files.0.contentType"))
            for content_type in (
                "image/gif",
                "image/svg+xml",
                "image/tiff",
                "image/avif",
                "application/pdf",
                "text/html",
                "image/png; charset=utf-8",
                "image/png\r\nX-Evil: 1",
                "",
            )
        ),
    ],
)
async def test_a_declared_size_or_type_that_is_not_allowed_is_refused(
    client: GraphQLClient, byte_size: int, content_type: str, expected: tuple[str, str]
) -> None:
    file = {"contentType": content_type, "byteSize": byte_size}

    payload = await create_or_refuse(client, file)

    assert codes(payload) == [expected]
    assert payload["uploads"] == []


async def test_all_user_errors_are_returned_at_once_and_nothing_is_presigned(
    client: GraphQLClient,
) -> None:
    wrong = {"contentType": "image/gif", "byteSize": 0}

    payload = await create_or_refuse(client, declared(a_picture()), wrong)

    assert codes(payload) == [
        ("UPLOAD_TOO_LARGE", "files.1.byteSize"),
        ("UPLOAD_TYPE_UNSUPPORTED", "files.1.contentType"),
    ]
    assert payload["uploads"] == []


async def test_an_empty_list_of_files_returns_no_uploads(client: GraphQLClient) -> None:
    assert await create(client) == []


async def test_more_than_a_hundred_files_are_refused(client: GraphQLClient) -> None:
    answer = await client.execute(CREATE, files=[declared(b"-")] * 101)

    [error] = answer["errors"]
    assert error["extensions"] == {
        "code": "QUERY_TOO_COMPLEX",
        "limit": "files",
        "max": 100,
        "actual": 101,
    }


async def test_at_most_a_hundred_uploads_can_be_open(
    client: GraphQLClient, darkroom: Darkroom
) -> None:
    data = a_picture()
    first, *_ = await create(client, *[declared(data)] * 100)

    refused = await client.post({"query": CREATE, "variables": {"files": [declared(data)]}})
    await send_file(first, data)
    await complete(client, first["id"])
    # One of them has become an image, so there is room for another one.
    [another] = await create(client, declared(data))

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    [error] = refused.json()["errors"]
    assert error["extensions"] == {"code": "RATE_LIMITED", "retryAfterSeconds": 60}
    assert another["id"]
    assert len(await create(darkroom.client(), declared(data))) == 1


async def test_the_limit_holds_for_concurrent_requests(client: GraphQLClient) -> None:
    files = {"files": [declared(a_picture())] * 60}

    answers = await asyncio.gather(
        *(client.post({"query": CREATE, "variables": files}) for _ in range(6))
    )

    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} <= {200, 429}


async def test_a_refused_upload_no_longer_counts_as_open(client: GraphQLClient) -> None:
    upload = await sent(client, b"<html>")
    await create(client, *[declared(a_picture())] * 99)

    await complete_or_refuse(client, upload["id"])

    assert len(await create(client, declared(a_picture()))) == 1


async def test_the_limit_is_a_setting(start_darkroom: StartDarkroom) -> None:
    client = (await start_darkroom(max_upload_bytes=100)).client()

    limits = (await client(LIMITS))["viewer"]["limits"]
    payload = await create_or_refuse(client, {"contentType": "image/png", "byteSize": 101})

    assert limits == {"maxUploadBytes": 100}
    assert codes(payload) == [("UPLOAD_TOO_LARGE", "files.0.byteSize")]
    assert await create(client, {"contentType": "image/png", "byteSize": 100})


@pytest.mark.parametrize("digest", ["", "00", "zz" * 32, "ü" * 64, b64encode(b"-" * 31).decode()])
async def test_an_invalid_digest_is_refused(client: GraphQLClient, digest: str) -> None:
    answer = await client.execute(CREATE, files=[declared(b"-", sha256=digest)])

    [error] = answer["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("..\\windows\\cmd.exe", "..\\windows\\cmd.exe"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("مي\u200cخواهم 👨‍👩‍👧.png", "مي\u200cخواهم 👨‍👩‍👧.png"),
        ("one\u2028two", "onetwo"),
        (" \t ", None),
        ("a\tb\nc", "abc"),
        ("n" * 10_000, "n" * 255),
        ("n" * 253 + "👩🏽🇧🇷.png", "n" * 253 + "👩🏽"),
        ("n" * 254 + "👩🏽.png", "n" * 254),
        ("\u2067\u05e9.png", "\u2067\u05e9.png\u2069"),
        ("\u2067" * 80_000, None),
        ("\u3164\ufe0f", None),
        ("", None),
        ("{$where: 1}", "{$where: 1}"),
    ],
)
async def test_a_file_name_is_used_as_a_label_only(
    client: GraphQLClient, name: str, label: str | None
) -> None:
    [upload] = await create(client, declared(a_picture(), filename=name))

    assert upload["filename"] == label
    for part in ("passwd", "windows", "gnp", "nnn", "where"):
        assert part not in upload["url"]


# What is sent, and what comes of it


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(("content_type", "format"), TYPES.items())
async def test_an_uploaded_picture_becomes_an_image(
    client: GraphQLClient, method: str, content_type: str, format: str
) -> None:
    data = a_picture((640, 480), format=format)
    [upload] = await create(client, with_digest(data, content_type, method=method))

    answer = await send_file(upload, data)
    image = await complete(client, upload["id"])

    assert answer.is_success
    assert (image["width"], image["height"], image["contentType"]) == (640, 480, content_type)
    assert image["origin"] == "UPLOAD"
    assert image["thumbhash"]
    assert image["favourite"] is False
    assert [image[name] for name in ("prompt", "seed", "model", "turn", "output")] == [None] * 5
    assert image["madeFrom"] == []
    original, thumbnail = await fetched(image["url"]), await fetched(image["thumbnail"])
    assert len(original.content) == image["byteSize"]
    assert Image.open(BytesIO(original.content)).format == format
    assert Image.open(BytesIO(thumbnail.content)).size == (256, 192)
    assert [one["id"] for one in await gallery(client, origin="UPLOAD")] == [image["id"]]
    assert (await gallery(client))[0]["id"] == image["id"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("declared_type", TYPES)
@pytest.mark.parametrize("actual_type", TYPES)
async def test_a_file_has_the_type_of_its_bytes_not_the_declared_one(
    client: GraphQLClient, declared_type: str, actual_type: str, method: str
) -> None:
    """Browsers take the type from the file's name."""
    data = a_picture((300, 200), format=TYPES[actual_type])
    [upload] = await create(client, with_digest(data, declared_type, method=method))

    answer = await send_file(upload, data)
    image = await complete(client, upload["id"])

    assert answer.is_success
    assert (image["width"], image["height"], image["contentType"]) == (300, 200, actual_type)
    kept = await fetched(image["url"])
    assert kept.headers["content-type"] == actual_type
    picture = Image.open(BytesIO(kept.content))
    assert picture.format == TYPES[actual_type]
    assert picture.convert("RGB").getpixel((150, 100)) == pytest.approx((0, 128, 128), abs=3)


async def test_a_type_can_be_declared_by_its_other_names(client: GraphQLClient) -> None:
    """As file pickers of phones and older systems report them."""
    data = a_picture(format="JPEG")
    zipped = {"contentType": "application/x-zip-compressed", "byteSize": 100, "purpose": "IMPORT"}
    photo, pasted, drawn, archive = await create(
        client,
        declared(data, "image/jpg"),
        declared(data, "image/pjpeg", method="POST"),
        declared(data, "IMAGE/X-PNG"),
        zipped,
    )

    answer = await send_file(photo, data)
    image = await complete(client, photo["id"])

    assert answer.is_success
    assert image["contentType"] == "image/jpeg"
    for sent_with, usual in (
        (photo["headers"], "image/jpeg"),
        (pasted["fields"], "image/jpeg"),
        (drawn["headers"], "image/png"),
        (archive["headers"], "application/zip"),
    ):
        assert {"name": "Content-Type", "value": usual} in sent_with


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("declared_type", ["image/heic", "image/heif", "image/jpeg"])
async def test_a_heic_photo_becomes_a_jpeg(
    client: GraphQLClient, declared_type: str, method: str
) -> None:
    data = heic(Image.new("RGB", (300, 200), "teal"))
    [upload] = await create(client, with_digest(data, declared_type, method=method))

    answer = await send_file(upload, data)
    image = await complete(client, upload["id"])

    assert answer.is_success
    assert (image["width"], image["height"], image["contentType"]) == (300, 200, "image/jpeg")
    kept = await fetched(image["url"])
    assert kept.headers["content-type"] == "image/jpeg"
    picture = Image.open(BytesIO(kept.content))
    assert picture.format == "JPEG"
    assert picture.getpixel((150, 100)) == pytest.approx((0, 128, 128), abs=4)


async def test_a_server_without_libheif_says_how_to_convert_a_photo(
    start_darkroom: StartDarkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "can_read_heif", lambda: False)
    client, data = (await start_darkroom()).client(), heic()

    declared_so = await create_or_refuse(client, declared(data, "image/heic"))
    upload = await sent(client, data, "image/jpeg")
    named_so = await complete_or_refuse(client, upload["id"])

    assert codes(declared_so) == [("UPLOAD_TYPE_UNSUPPORTED", "files.0.contentType")]
    assert codes(named_so) == [("UPLOAD_TYPE_UNSUPPORTED", "uploadId")]
    for payload in (declared_so, named_so):
        assert "Convert the photo to JPEG" in payload["userErrors"][0]["message"]


async def test_nothing_is_stored_of_a_completed_upload_but_the_image(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom()
    client, folder = darkroom.client(), darkroom.settings.data_dir / "objects"

    await uploaded(client)

    assert files_below(folder / "uploads") == []
    assert files_below(folder / "images")


async def test_completing_an_upload_again_returns_the_same_image(client: GraphQLClient) -> None:
    upload = await sent(client, a_picture())

    images = [await complete(client, upload["id"]) for _ in range(3)]

    assert images[0] == images[1] == images[2]
    assert len(await gallery(client, origin="UPLOAD")) == 1


async def test_concurrent_completions_make_one_image(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom()
    client, folder = darkroom.client(), darkroom.settings.data_dir / "objects"
    await samples(client)
    before = {path.name for path in files_below(folder)}
    upload = await sent(client, a_picture((300, 300)))

    images = await asyncio.gather(*(complete(client, upload["id"]) for _ in range(8)))

    assert len({image["id"] for image in images}) == 1
    assert len(await gallery(client, origin="UPLOAD")) == 1
    name = urlsplit(images[0]["url"]).path.rpartition("/")[2].removesuffix(".png")
    kept = {path.name for path in files_below(folder)} - before
    assert kept == {f"{name}.png", f"{name}-256w.webp"}


async def test_a_second_write_to_the_url_changes_nothing(client: GraphQLClient) -> None:
    one, two = (a_picture(colour=colour, compress_level=0) for colour in ("teal", "pink"))
    assert len(one) == len(two)
    put = await sent(client, one)
    post = await sent(client, one, method="POST")

    again_by_put = await send_file(put, two)
    first = await complete(client, put["id"])
    await complete(client, post["id"])
    again_by_post = await send_file(post, two)
    same = await complete(client, post["id"])

    assert again_by_put.status_code == 412
    for image in (first, same):
        pixels = Image.open(BytesIO((await fetched(image["url"])).content)).convert("RGB")
        assert pixels.getpixel((5, 5)) == (0, 128, 128)
    assert again_by_post.status_code in (204, 412)


# What is refused


async def test_completing_an_upload_whose_file_never_arrived_is_refused(
    client: GraphQLClient,
) -> None:
    [upload] = await create(client, declared(a_picture()))

    refused = await complete_or_refuse(client, upload["id"])
    await send_file(upload, a_picture())
    # It was only late.
    image = await complete(client, upload["id"])

    assert codes(refused) == [("UPLOAD_MISSING", "uploadId")]
    assert refused["image"] is None
    assert image["id"]


@pytest.mark.parametrize("change", ["longer", "shorter", "other type", "other key", "other bytes"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_file_that_differs_from_its_declaration_is_refused(
    client: GraphQLClient, change: str, method: str
) -> None:
    data = a_picture()
    [upload] = await create(client, with_digest(data, method=method))
    wanted = upload["id"]
    if change == "longer":
        data += b"-"
    elif change == "shorter":
        data = data[:-1]
    elif change == "other bytes":
        data = data[:-1] + b"-"
    for place in (*upload["headers"], *upload["fields"]):
        if change == "other type" and place["name"] == "Content-Type":
            place["value"] = "image/jpeg"
        if change == "other key" and place["name"] == "key":
            last = "1" if place["value"][-5] == "0" else "0"
            place["value"] = f"{place['value'][:-5]}{last}.png"
    if change == "other key" and method == "PUT":
        upload["url"] = upload["url"].replace(".png", "0.png")

    answer = await send_file(upload, data)
    refused = await complete_or_refuse(client, wanted)

    assert answer.status_code in (400, 403, 413)
    assert codes(refused) == [("UPLOAD_MISSING", "uploadId")]


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("image/png", b"<html><script>alert(1)</script>", "UPLOAD_TYPE_UNSUPPORTED"),
        ("image/png", b"%PDF-1.7 ...", "UPLOAD_TYPE_UNSUPPORTED"),
        ("image/webp", a_picture(format="GIF"), "UPLOAD_TYPE_UNSUPPORTED"),
        ("image/png", a_picture()[:-20], "UPLOAD_INVALID"),
        ("image/png", a_picture((15, 400)), "UPLOAD_INVALID"),
        ("image/png", a_picture((8_193, 16)), "UPLOAD_INVALID"),
    ],
    ids=["HTML", "PDF", "GIF as WebP", "cut", "narrow", "wide"],
)
async def test_a_file_that_is_not_an_accepted_picture_is_refused(
    client: GraphQLClient, content_type: str, data: bytes, code: str
) -> None:
    upload = await sent(client, data, content_type)

    refused = await complete_or_refuse(client, upload["id"])
    again = await complete_or_refuse(client, upload["id"])

    assert codes(refused) == [(code, "uploadId")]
    assert again == refused
    assert refused["image"] is None
    assert await gallery(client, origin="UPLOAD") == []


async def test_a_damaged_file_is_a_user_error(client: GraphQLClient) -> None:
    at_once = asyncio.Semaphore(4)

    async def tried(data: bytes) -> httpx2.Response:
        async with at_once:
            upload = await sent(client, data, content_type_of(data) or "image/png")
            return await client.post({"query": COMPLETE, "variables": {"id": upload["id"]}})

    answers = await asyncio.gather(*(tried(data) for data in mutants(SEED, DAMAGED) if data))

    assert {answer.status_code for answer in answers} == {200}, f"seed {SEED}"
    payloads = [answer.json()["data"]["completeUpload"] for answer in answers]
    refused = [payload for payload in payloads if payload["image"] is None]
    returned = {code for payload in refused for code, _ in codes(payload)}
    assert returned <= {"UPLOAD_INVALID", "UPLOAD_TYPE_UNSUPPORTED"}, f"seed {SEED}"
    assert refused


@pytest.mark.parametrize(
    "name", ["", "upl_", "img_00000000000000000000000000", "$where", UNKNOWN, "upl_" + "z" * 26]
)
async def test_an_unknown_upload_is_not_found(client: GraphQLClient, name: str) -> None:
    assert codes(await complete_or_refuse(client, name)) == [("NOT_FOUND", "uploadId")]


async def test_a_foreign_upload_is_not_found(client: GraphQLClient, darkroom: Darkroom) -> None:
    upload = await sent(client, a_picture())
    stranger = darkroom.client()

    foreign = await stranger.post({"query": COMPLETE, "variables": {"id": upload["id"]}})
    unknown = await stranger.post({"query": COMPLETE, "variables": {"id": UNKNOWN}})

    assert foreign.content == unknown.content
    assert (await complete(client, upload["id"]))["id"]


async def test_uploading_needs_a_token(darkroom: Darkroom) -> None:
    for query, variables in ((CREATE, {"files": [declared(b"-")]}), (COMPLETE, {"id": UNKNOWN})):
        answer = await darkroom.anonymous().execute(query, **variables)

        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


async def test_completing_an_upload_does_not_restore_a_deleted_image(client: GraphQLClient) -> None:
    upload = await sent(client, a_picture())
    image = await complete(client, upload["id"])
    await client(DELETE_IMAGE, id=image["id"])

    assert codes(await complete_or_refuse(client, upload["id"])) == [("NOT_FOUND", "uploadId")]
    assert (await fetched(image["url"])).status_code == 404


async def test_an_unavailable_object_store_is_answered_as_overloaded(
    start_darkroom: StartDarkroom, tmp_path: Path
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    await samples(client)
    upload = await sent(client, a_picture())
    folder = darkroom.settings.data_dir / "objects" / "images"
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("no folder")

    answer = await client.post({"query": COMPLETE, "variables": {"id": upload["id"]}})
    folder.unlink()
    aside.rename(folder)

    assert answer.status_code == 503
    assert answer.json()["errors"][0]["extensions"]["code"] == "OVERLOADED"
    assert (await complete(client, upload["id"]))["id"]


# What can be done with it


async def test_a_conversation_starts_from_an_uploaded_image(client: GraphQLClient) -> None:
    image = await uploaded(client, a_picture((160, 90)))

    payload = await conversation_with(client, sourceImageId=image["id"], userMessage="Sepia")

    assert payload["conversation"]["sourceImage"] == {"id": image["id"]}
    assert payload["conversation"]["aspectRatio"] == "16:9"
    turn = payload["turn"]
    assert turn["status"] == "COMPLETED"
    assert turn["references"] == [{"origin": "SOURCE", "image": {"id": image["id"]}}]
    refused = (await client(DELETE_IMAGE, id=image["id"]))["deleteImage"]
    assert codes(refused) == [("IMAGE_IN_USE", "imageId")]


async def test_without_a_model_the_default_model_edits_an_uploaded_image(
    client: GraphQLClient,
) -> None:
    image = await uploaded(client)

    payload = await start(client, sourceImageId=image["id"], selectedModels=None)

    [model] = payload["turn"]["selectedModels"]
    query = "{ models(scene: IMAGE_TO_IMAGE) { id isDefault } }"
    usual = [one["id"] for one in (await client(query))["models"] if one["isDefault"]]
    assert [model["id"]] == usual


async def test_uploaded_images_can_be_references(client: GraphQLClient) -> None:
    images = [await uploaded(client, a_picture(colour=colour)) for colour in ("red", "blue")]
    ids = [image["id"] for image in images]

    started = await start(client, manualReferenceIds=ids, userMessage="Collage")
    turn = await until_finished(client, started["turn"])

    assert [one["origin"] for one in turn["references"]] == ["MANUAL", "MANUAL"]
    assert [one["image"]["id"] for one in turn["references"]] == ids
    [made] = await gallery(client, origin="OUTPUT")
    query = "query($id: ID!) { image(id: $id) { madeFrom { id origin } } }"
    made_from = (await client(query, id=made["id"]))["image"]["madeFrom"]
    assert made_from == [{"id": name, "origin": "UPLOAD"} for name in ids]


async def test_an_upload_that_is_not_completed_cannot_be_a_reference(client: GraphQLClient) -> None:
    [upload] = await create(client, declared(a_picture()))
    conversation = (await conversation_with(client))["conversation"]

    refused = [
        await start_or_refuse(client, sourceImageId=upload["id"]),
        await start_or_refuse(client, manualReferenceIds=[upload["id"]]),
        await send_or_refuse(client, conversation["id"], manualReferenceIds=[upload["id"]]),
    ]

    assert [codes(payload) for payload in refused] == [
        [("REFERENCE_NOT_READY", "sourceImageId")],
        [("REFERENCE_NOT_READY", "manualReferenceIds.0")],
        [("REFERENCE_NOT_READY", "manualReferenceIds.0")],
    ]
