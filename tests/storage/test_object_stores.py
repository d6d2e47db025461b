"""The contract of every object store, in a folder and in a bucket alike."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import pytest

from domain.errors import ObjectMissing, ObjectTooLarge, StoreUnavailable
from domain.images import new_key, rendition_key, shard_of
from domain.object_keys import LINK_WINDOW_SECONDS
from domain.uploads import DeclaredFile, PresignedUpload, UploadMethod
from storage.objects import s3
from tests.storage.places import PICTURE, POST, PUT, Place, altered

Part = tuple[str, tuple[str | None, bytes | str]]
METHODS = [PUT, POST]
# As React Native's FormData writes it: no charset, a type for each part that is a file.
NATIVE_FIELD = '--frontier\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
NATIVE_FILE = (
    '--frontier\r\ncontent-disposition: form-data; name="file"; filename="IMG_0001.png"; '
    "filename*=utf-8''IMG_0001.png\r\ncontent-type: image/png\r\n\r\n"
)
NOT_KEYS = ["", "/", "../secret", "images/3f/x.png", "images//x.png", "uploads/3f/x.png\n"]


# Bytes


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
async def test_an_object_that_was_stored_can_be_read(place: Place, content_type: str) -> None:
    key = new_key("images", content_type)
    thumbnail_key = rendition_key(key, 1024)

    await place.store.put(key, b"the picture")
    await place.store.put(thumbnail_key, b"its thumbnail")

    assert await place.store.get(key) == b"the picture"
    assert await place.store.get(thumbnail_key) == b"its thumbnail"


async def test_an_object_can_be_large(place: Place) -> None:
    data = os.urandom(12_000_000)

    assert await place.store.get(await place.put(data)) == data


@pytest.mark.parametrize("count", [0, 1, 7, 40])
async def test_an_object_can_be_stored_in_parts(place: Place, count: int) -> None:
    part = os.urandom(500_000)
    key = new_key("exports", "application/zip")

    await place.store.put_parts(key, _parts(part, count))

    assert await place.store.get(key) == part * count
    link = await place.http.get(place.store.link(key).url)
    assert (link.status_code, link.headers["content-type"]) == (200, "application/zip")


async def test_a_range_of_an_object_can_be_read(place: Place) -> None:
    key = await place.put(PICTURE)

    assert await place.store.get_size(key) == len(PICTURE)
    assert await place.store.read(key, start=10, count=20) == PICTURE[10:30]
    assert await place.store.read(key, start=len(PICTURE) - 1, count=1) == PICTURE[-1:]
    for missing in (place.store.get_size, partial(place.store.read, start=0, count=1)):
        with pytest.raises(ObjectMissing):
            await missing(new_key("images", "image/png"))


async def test_of_parts_that_fail_nothing_is_stored(place: Place) -> None:
    key = new_key("exports", "application/zip")

    with pytest.raises(ZeroDivisionError):
        await place.store.put_parts(key, _parts(os.urandom(500_000), 20, then=ZeroDivisionError))

    with pytest.raises(ObjectMissing):
        await place.store.get(key)
    listed = place.store.list_keys(shard_of(key), folders=["exports"])
    assert key not in [one.key async for one in listed]


async def test_an_object_partly_stored_by_another_process_is_deleted(place: Place) -> None:
    """It may be storing it still, and does not end it then."""
    key, goes_on, stored = new_key("exports", "application/zip"), asyncio.Event(), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield os.urandom(12_000_000)
        stored.set()
        await goes_on.wait()
        yield b"the rest"

    other = asyncio.create_task(place.store.put_parts(key, parts()))
    await asyncio.wait_for(stored.wait(), 20)
    await place.store.delete_parts(key)
    goes_on.set()

    with pytest.raises(StoreUnavailable):
        await other
    with pytest.raises(ObjectMissing):
        await place.store.get(key)
    await place.store.put(key, b"complete")
    await place.store.delete_parts(key)
    with pytest.raises(ObjectMissing):
        await place.store.get(key)
    await place.store.delete_parts(key)


async def _parts(
    part: bytes, count: int, *, then: type[Exception] | None = None
) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield part
    if then is not None:
        raise then


async def test_an_empty_object_is_an_object(place: Place) -> None:
    assert await place.store.get(await place.put(b"")) == b""


async def test_many_objects_are_stored_and_read_at_once(place: Place) -> None:
    keys = await asyncio.gather(*(place.put(bytes([n]) * 1000) for n in range(100)))

    found = await asyncio.gather(*(place.store.get(key) for key in keys))

    assert found == [bytes([n]) * 1000 for n in range(100)]


async def test_no_more_is_read_than_requested(place: Place) -> None:
    key = await place.put(PICTURE)

    assert await place.store.get(key, max_bytes=len(PICTURE)) == PICTURE
    with pytest.raises(ObjectTooLarge):
        await place.store.get(key, max_bytes=len(PICTURE) - 1)


async def test_an_unknown_object_is_missing(place: Place) -> None:
    with pytest.raises(ObjectMissing):
        await place.store.get(new_key("images", "image/png"))


async def test_a_deletion_removes_the_given_objects_only(place: Place) -> None:
    gone, kept = await place.put(), await place.put()

    await place.store.delete([gone, new_key("images", "image/png"), gone])
    await place.store.delete([])

    with pytest.raises(ObjectMissing):
        await place.store.get(gone)
    assert (await place.http.get(place.store.link(gone).url)).status_code == 404
    assert await place.store.get(kept) == PICTURE


async def test_more_objects_can_be_deleted_than_a_server_takes_in_one_request(place: Place) -> None:
    first, last = await place.put(), await place.put()
    between = [new_key("images", "image/png") for _ in range(1100)]

    await place.store.delete([first, *between, last])

    for key in (first, last):
        with pytest.raises(ObjectMissing):
            await place.store.get(key)


async def test_a_listing_of_any_length_is_complete(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "BATCH_SIZE", 10)
    shard = "7c"
    put = {f"images/{shard}/{shard}{number:038x}.png" for number in range(2 * s3.BATCH_SIZE + 1)}
    await asyncio.gather(*(place.store.put(key, b"-") for key in put))
    await place.store.put(new_key("uploads", "image/png"), b"--")

    found = {one.key: one async for one in place.store.list_keys(shard, folders=["images"])}

    assert put <= found.keys()
    assert all(key.startswith(f"images/{shard}/") for key in found)
    one = found[min(put)]
    assert one.byte_size == 1
    assert abs((datetime.now(UTC) - one.modified_at).total_seconds()) < 120
    await place.store.delete(list(put))
    left = {one.key async for one in place.store.list_keys(shard, folders=["images"])}
    assert put.isdisjoint(left)


@pytest.mark.parametrize("key", NOT_KEYS)
async def test_an_invalid_key_is_refused(place: Place, key: str) -> None:
    file = DeclaredFile(content_type="image/png", byte_size=1)

    with pytest.raises(ValueError, match="not a key"):
        await place.store.put(key, PICTURE)
    with pytest.raises(ValueError, match="not a key"):
        await place.store.get(key)
    with pytest.raises(ValueError, match="not a key"):
        await place.store.delete([key])
    with pytest.raises(ValueError, match="not a key"):
        place.store.link(key)
    with pytest.raises(ValueError, match="not a key"):
        place.store.presign(key, file, method=PUT)


# Links


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
async def test_a_signed_url_returns_its_object(place: Place, content_type: str) -> None:
    key = await place.put(content_type=content_type)

    answer = await place.http.get(place.store.link(key).url)

    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-disposition"] == "inline"
    assert answer.headers["etag"]


async def test_the_response_to_a_signed_url_can_be_cached(place: Place) -> None:
    answer = await place.http.get(place.store.link(await place.put()).url)

    found = re.fullmatch(r"private, max-age=(\d+), immutable", answer.headers["cache-control"])
    assert found is not None
    assert int(found[1]) >= LINK_WINDOW_SECONDS - 2


async def test_a_signed_url_supports_ranges_and_conditional_requests(place: Place) -> None:
    url = place.store.link(await place.put()).url

    part = await place.http.get(url, headers={"Range": "bytes=10-19"})
    again = await place.http.get(url, headers={"If-None-Match": part.headers["etag"]})

    assert (part.status_code, part.content) == (206, PICTURE[10:20])
    assert (again.status_code, again.content) == (304, b"")


async def test_a_signed_url_is_stable_for_half_an_hour_and_valid_for_as_long_again(
    place: Place,
) -> None:
    key = await place.put()
    given: dict[str, list[float]] = {}

    for place.clock.behind in range(2 * LINK_WINDOW_SECONDS, -2 * LINK_WINDOW_SECONDS, -1):
        link = place.store.link(key)
        given.setdefault(link.url, []).append(place.clock())
        left = link.expires_at.timestamp() - place.clock()
        assert LINK_WINDOW_SECONDS - 1 < left <= 2 * LINK_WINDOW_SECONDS

    whole = list(given.values())[1:-1]
    assert len(whole) >= 2
    assert all(abs(len(moments) - LINK_WINDOW_SECONDS) <= 2 for moments in whole)


async def test_a_signed_url_from_half_an_hour_ago_is_still_valid(place: Place) -> None:
    key = await place.put()
    place.clock.behind = LINK_WINDOW_SECONDS - 2
    url = place.store.link(key).url
    place.clock.behind = 0

    assert (await place.http.get(url)).status_code == 200


async def test_an_expired_url_is_refused(place: Place) -> None:
    key = await place.put()
    place.clock.behind = 2 * LINK_WINDOW_SECONDS + 1
    link = place.store.link(key)
    place.clock.behind = 0

    assert link.expires_at < datetime.now(UTC)
    assert (await place.http.get(link.url)).status_code == 403


async def test_a_modified_url_is_refused(place: Place) -> None:
    key, other = await place.put(), await place.put()
    url = place.store.link(key).url
    sealed = ("expires", "signature", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature")
    names = [name for name in sealed if f"{name}=" in url]
    assert len(names) in (2, 3)

    for name in names:
        assert (await place.http.get(altered(url, name))).status_code in (400, 403), name
    assert (await place.http.get(url.replace(key, other))).status_code == 403
    assert (await place.http.put(url, content=b"mine")).status_code in (403, 405)
    assert await place.store.get(key) == PICTURE


async def test_a_url_without_a_signature_is_refused(private_place: Place) -> None:
    key = await private_place.put()
    address = private_place.store.link(key).url.partition("?")[0]

    assert (await private_place.http.get(address)).status_code == 403
    assert (await private_place.http.put(address, content=b"mine")).status_code in (403, 405)
    assert (await private_place.http.delete(address)).status_code in (403, 405)
    assert await private_place.store.get(key) == PICTURE


async def test_uploads_have_no_signed_urls(place: Place) -> None:
    with pytest.raises(ValueError, match="not a key that has links"):
        place.store.link(new_key("uploads", "image/png"))


# Presigned uploads


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
@pytest.mark.parametrize("with_digest", [False, True])
async def test_a_presigned_upload_accepts_the_declared_file(
    place: Place, method: UploadMethod, content_type: str, with_digest: bool
) -> None:
    key, presigned = place.presign(method, with_digest=with_digest, content_type=content_type)

    answer = await place.send(presigned)

    assert answer.is_success, answer.text
    assert await place.store.get(key, max_bytes=len(PICTURE)) == PICTURE


async def test_a_presigned_upload_accepts_the_form_of_a_phone(place: Place) -> None:
    key, presigned = place.presign(POST)
    fields = "".join(
        NATIVE_FIELD.format(name=name, value=presigned.fields[name]) for name in presigned.fields
    )
    body = f"{fields}{NATIVE_FILE}".encode() + PICTURE + b"\r\n--frontier--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=frontier"}

    answer = await place.http.post(presigned.url, content=body, headers=headers)

    assert answer.status_code == 204
    assert await place.store.get(key) == PICTURE


async def test_a_presigned_upload_accepts_no_additional_fields(private_place: Place) -> None:
    """What works in development and never in a bucket is found out in development."""
    place = private_place
    token = {"Authorization": "Bearer x"}

    async def in_parts() -> AsyncIterator[bytes]:
        yield PICTURE[:10]
        yield PICTURE[10:]

    key, put = place.presign(PUT)
    with_token = await place.http.put(put.url, headers={**put.headers, **token}, content=PICTURE)
    no_length = await place.http.put(put.url, headers=dict(put.headers), content=in_parts())
    posted_key, post = place.presign(POST)
    file: Part = ("file", ("a.png", PICTURE))
    fields: list[Part] = [(name, (None, value)) for name, value in post.fields.items()]
    forms = [[file, *fields], [*fields, ("more", (None, "1")), file]]
    posted = [await place.http.post(post.url, files=form) for form in forms]
    posted.append(await place.http.post(post.url, headers=token, files=[*fields, file]))

    assert all(answer.status_code in (400, 403, 411) for answer in (with_token, no_length, *posted))
    for one in (key, posted_key):
        with pytest.raises(ObjectMissing):
            await place.store.get(one)
    assert (await place.http.post(post.url, files=[*fields, file])).is_success


@pytest.mark.parametrize("method", METHODS)
async def test_a_presigned_upload_accepts_the_maximum_size(
    place: Place, method: UploadMethod
) -> None:
    data = os.urandom(5_000_000)
    key, presigned = place.presign(method, data=data)

    assert (await place.send(presigned, data)).is_success
    assert await place.store.get(key) == data


@pytest.mark.parametrize("method", METHODS)
async def test_a_presigned_upload_expires_after_a_quarter_of_an_hour(
    place: Place, method: UploadMethod
) -> None:
    place.clock.behind = 14 * 60
    key, presigned = place.presign(method)
    place.clock.behind = 15 * 60 + 2
    late_key, late = place.presign(method)
    place.clock.behind = 0

    assert (presigned.expires_at - datetime.now(UTC)).total_seconds() < 60
    assert (await place.send(presigned)).is_success
    assert await place.store.get(key) == PICTURE
    await assert_refused(place, late_key, late)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [PICTURE + b"!", PICTURE[:-1], b"", PICTURE * 1000])
async def test_another_length_is_refused(place: Place, method: UploadMethod, data: bytes) -> None:
    await assert_refused(place, *place.presign(method), data=data)


@pytest.mark.parametrize("method", METHODS)
async def test_another_type_is_refused(place: Place, method: UploadMethod) -> None:
    key, presigned = place.presign(method)

    await assert_refused(place, key, presigned, instead={"Content-Type": "text/html"})
    await assert_refused(place, key, presigned, without="Content-Type")


async def test_another_digest_is_refused(digesting_place: Place) -> None:
    key, presigned = digesting_place.presign(PUT, with_digest=True)

    await assert_refused(digesting_place, key, presigned, data=PICTURE[::-1])


async def test_another_digest_is_refused_in_a_form(folder: Place) -> None:
    key, presigned = folder.presign(POST, with_digest=True)

    await assert_refused(folder, key, presigned, data=PICTURE[::-1])


async def test_a_second_file_is_refused(place: Place) -> None:
    key, presigned = place.presign(PUT)
    _, same_place = place.presign(PUT, key=key, data=PICTURE[::-1])

    first = await place.send(presigned)
    again = await place.send(presigned)
    other = await place.send(same_place, PICTURE[::-1])
    careless = await place.send(presigned, without="If-None-Match")

    assert first.is_success
    assert (again.status_code, other.status_code) == (412, 412)
    assert careless.status_code == 403
    assert await place.store.get(key) == PICTURE


@pytest.mark.parametrize("method", METHODS)
async def test_a_modified_presigned_upload_is_refused(place: Place, method: UploadMethod) -> None:
    key, presigned = place.presign(method)
    other = new_key("uploads", "image/png")
    sealed = next(
        (name for name in ("offer", "X-Amz-Signature") if f"{name}=" in presigned.url), None
    )

    if sealed:
        await assert_refused(place, key, presigned, url=altered(presigned.url, sealed))
    if method is PUT or sealed:
        await assert_refused(place, other, presigned, url=presigned.url.replace(key, other))
    if method is POST:
        await assert_refused(place, other, presigned, instead={"key": other})
    if "policy" in presigned.fields:
        await assert_refused(place, key, presigned, instead=another(presigned, "policy"))
        await assert_refused(place, key, presigned, instead=another(presigned, "x-amz-date"))


async def test_a_modified_signature_of_a_form_is_refused(private_place: Place) -> None:
    key, presigned = private_place.presign(POST)
    if "x-amz-signature" in presigned.fields:
        changed = another(presigned, "x-amz-signature")
        await assert_refused(private_place, key, presigned, instead=changed)
    else:
        await assert_refused(private_place, key, presigned, url=altered(presigned.url, "offer"))


async def test_a_presigned_upload_of_one_method_is_not_valid_for_another(place: Place) -> None:
    key, to_put = place.presign(PUT)
    _, to_post = place.presign(POST, key=key)

    crossed = PresignedUpload(
        url=to_put.url,
        method=POST,
        headers={},
        fields=to_post.fields if "?" in to_post.url else {"key": key, "Content-Type": "image/png"},
        expires_at=to_put.expires_at,
    )
    await assert_refused(place, key, crossed)


def test_an_invalid_presigned_upload_is_a_programming_error(place: Place) -> None:
    key = new_key("uploads", "image/png")

    for file in (
        DeclaredFile(content_type="image/jpeg", byte_size=1),
        DeclaredFile(content_type="image/png", byte_size=0),
        DeclaredFile(content_type="image/png", byte_size=1, sha256=b"short"),
    ):
        with pytest.raises(ValueError, match="not a"):
            place.store.presign(key, file, method=PUT)
    with pytest.raises(ValueError, match="not a key for an upload"):
        place.store.presign(
            new_key("images", "image/png"),
            DeclaredFile(content_type="image/png", byte_size=1),
            method=PUT,
        )


def another(presigned: PresignedUpload, name: str) -> dict[str, str]:
    """A field of the form with a character changed."""
    value = presigned.fields[name]
    return {name: value[:7] + ("4" if value[7] != "4" else "5") + value[8:]}


async def assert_refused(
    place: Place,
    key: str,
    presigned: PresignedUpload,
    *,
    data: bytes = PICTURE,
    url: str | None = None,
    without: str = "",
    instead: dict[str, str] | None = None,
) -> None:
    """The answer is one of 4xx, and there is no object."""
    answer = await place.send(presigned, data, url=url, without=without, instead=instead)

    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    with pytest.raises(ObjectMissing):
        await place.store.get(key)
