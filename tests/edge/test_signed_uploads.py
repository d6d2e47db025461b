"""Uploads to a folder over real HTTP: their responses, and what is never stored or awaited."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from domain.errors import ObjectMissing
from domain.uploads import PresignedUpload, UploadMethod
from edge import signed_uploads
from tests.storage.places import PICTURE, POST, PUT, Place
from tests.uploads import begin_form, form_part
from tests.waits import eventually

APP = "https://app.test"
HALF = len(PICTURE) // 2


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    [error] = answer.json()["errors"]
    assert error["message"]
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, error["extensions"]["code"]


async def assert_nothing_is_kept(place: Place, key: str, folder: Path) -> None:
    with pytest.raises(ObjectMissing):
        await place.store.get(key)
    assert files_below(folder) == []


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def half_sent(
    folder: Place, presigned: PresignedUpload, go_on: asyncio.Event
) -> asyncio.Task[httpx2.Response]:
    """The picture on its way, its second half held back until it may go on."""
    begun = asyncio.Event()

    async def halves() -> AsyncIterator[bytes]:
        yield PICTURE[:HALF]
        begun.set()
        await go_on.wait()
        yield PICTURE[HALF:]

    headers = {**presigned.headers, "Content-Length": str(len(PICTURE))}
    sending = asyncio.create_task(folder.http.put(presigned.url, headers=headers, content=halves()))
    await begun.wait()
    return sending


async def test_each_refusal_has_its_status_and_code(folder: Place, tmp_path: Path) -> None:
    key, presigned = folder.presign(PUT, with_digest=True)

    assert code_of(await folder.http.get(presigned.url)) == (405, "METHOD_NOT_ALLOWED")
    assert code_of(await folder.send(presigned, url=presigned.url + "x")) == (403, "FORBIDDEN")
    assert code_of(await folder.send(presigned, without="If-None-Match")) == (403, "FORBIDDEN")
    assert code_of(await folder.send(presigned, without="Content-Type")) == (403, "FORBIDDEN")
    assert code_of(await folder.send(presigned, PICTURE + b"!")) == (413, "PAYLOAD_TOO_LARGE")
    assert code_of(await folder.send(presigned, PICTURE[:-1])) == (400, "BAD_REQUEST")
    assert code_of(await folder.send(presigned, PICTURE[::-1])) == (400, "BAD_REQUEST")
    await assert_nothing_is_kept(folder, key, tmp_path)
    assert (await folder.send(presigned)).status_code == 200
    assert code_of(await folder.send(presigned)) == (412, "PRECONDITION_FAILED")


async def test_of_two_concurrent_files_one_is_stored(folder: Place) -> None:
    key, one = folder.presign(PUT)
    _, two = folder.presign(PUT, key=key, data=PICTURE[::-1])

    answers = await asyncio.gather(
        *(folder.send(one) for _ in range(5)), *(folder.send(two, PICTURE[::-1]) for _ in range(5))
    )

    codes = [answer.status_code for answer in answers]
    assert sorted(codes) == [200] + [412] * 9
    expected = PICTURE if codes.index(200) < 5 else PICTURE[::-1]
    assert await folder.store.get(key) == expected


async def test_form_fields_must_be_sent_unchanged(folder: Place, tmp_path: Path) -> None:
    key, presigned = folder.presign(POST)

    assert code_of(await folder.send(presigned, without="key")) == (403, "FORBIDDEN")
    assert code_of(await folder.send(presigned, instead={"key": "other"})) == (403, "FORBIDDEN")
    await assert_nothing_is_kept(folder, key, tmp_path)


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-16", "no-such"])
async def test_an_unknown_charset_of_a_form_causes_no_internal_error(
    folder: Place, charset: str
) -> None:
    _, presigned = folder.presign(POST)

    answer = await folder.http.post(
        presigned.url,
        content=begin_form(presigned.fields) + PICTURE + b"\r\n--x--\r\n",
        headers={"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"},
    )

    assert answer.status_code in (204, 400)


FILE = form_part('name="file"; filename="a"', PICTURE)
OTHER = form_part('name="other"', b"1")
END = b"--x--\r\n"
FORMS = {
    "a field after the file": (FILE + OTHER + END, 204),
    "an epilogue": (FILE + END + b"--", 204),
    "a field that was not presigned": (OTHER + FILE + END, 403),
    "two files": (FILE + FILE + END, 400),
    "a file of another name": (FILE.replace(b'"file"', b'"image"') + END, 400),
    "a file without a file name": (FILE.replace(b'; filename="a"', b"") + END, 400),
    "a part without a name": (FILE.replace(b'; name="file"', b"") + END, 400),
    "no file": (END, 400),
    "many fields": (FILE + OTHER * 16 + END, 400),
    "an end that is missing": (FILE, 400),
    "an end in another place": (FILE[:-4] + b"--", 400),
    "another boundary": (FILE.replace(b"--x", b"--y") + END, 400),
}


@pytest.mark.parametrize(("rest", "status"), FORMS.values(), ids=FORMS)
async def test_a_form_is_read_as_the_standard_says(
    folder: Place, tmp_path: Path, rest: bytes, status: int
) -> None:
    key, presigned = folder.presign(POST)
    fields = (
        form_part(f'name="{name}"', value.encode()) for name, value in presigned.fields.items()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    answer = await folder.http.post(
        presigned.url, content=b"".join((*fields, rest)), headers=headers
    )

    assert answer.status_code == status
    if status == 204:
        assert await folder.store.get(key) == PICTURE
    else:
        await assert_nothing_is_kept(folder, key, tmp_path)


@pytest.mark.parametrize("content_type", ["", "image/png", "multipart/form-data"])
async def test_a_body_that_is_not_a_form_is_refused(folder: Place, content_type: str) -> None:
    _, presigned = folder.presign(POST)

    answer = await folder.http.post(
        presigned.url, content=PICTURE, headers={"Content-Type": content_type}
    )

    assert code_of(answer) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("method", [PUT, POST])
async def test_no_more_bytes_are_read_than_declared(folder: Place, method: UploadMethod) -> None:
    _, presigned = folder.presign(method)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1_000_000_000:
            sent += 64_000
            yield b"x" * 64_000

    headers = {**presigned.headers, "Content-Type": "image/png"}
    if method is POST:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = await folder.http.request(
            method, presigned.url, content=endless(), headers=headers
        )
    except httpx2.TransportError:
        pass  # the connection was closed before all was sent
    else:
        assert answer.status_code in (400, 411, 413)

    assert sent < 200_000_000, "Many may be on their way until the connection is closed."


async def test_an_interrupted_upload_leaves_nothing_behind(folder: Place, tmp_path: Path) -> None:
    key, presigned = folder.presign(PUT)
    address = urlsplit(presigned.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in presigned.headers.items())

    writer.write(head.encode() + b"\r\n" + PICTURE[:500])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await reader.read()

    assert (await folder.send(folder.presign(PUT)[1])).is_success
    with pytest.raises(ObjectMissing):
        await folder.store.get(key)


async def test_slow_uploads_time_out_and_free_their_capacity(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_uploads, "MAX_UPLOADS", 2)
    too_late, may_end = asyncio.Event(), asyncio.Event()

    async def send_slowly() -> asyncio.Task[httpx2.Response]:
        begun = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield PICTURE[:10]
            begun.set()
            await too_late.wait()
            yield PICTURE[10:20]
            await may_end.wait()
            yield PICTURE[20:]

        _, presigned = folder.presign(PUT)
        headers = {**presigned.headers, "Content-Length": str(len(PICTURE))}
        sending = asyncio.create_task(
            folder.http.put(presigned.url, headers=headers, content=slow())
        )
        await begun.wait()
        return sending

    async def is_idle() -> bool:
        return (await folder.send(folder.presign(PUT)[1])).status_code != 503

    slow = [await send_slowly() for _ in range(2)]
    busy = await folder.send(folder.presign(PUT)[1])
    with monkeypatch.context() as patched:
        patched.setattr(signed_uploads, "FIRST_SECONDS", 0.0)
        patched.setattr(signed_uploads, "MAX_UPLOADS", 1)
        too_late.set()
        await eventually(is_idle, within=60, what="both have timed out")
        may_end.set()
        ended = await asyncio.gather(*slow)

    assert code_of(busy) == (503, "STORAGE_UNAVAILABLE")
    assert busy.headers["retry-after"] == "2"
    assert [code_of(answer) for answer in ended] == [(408, "REQUEST_TIMEOUT")] * 2
    assert (await folder.send(folder.presign(PUT)[1])).is_success


@pytest.mark.parametrize("method", [PUT, POST])
async def test_pages_of_allowed_origins_can_upload(folder: Place, method: UploadMethod) -> None:
    _, presigned = folder.presign(method)
    asking = {
        "Access-Control-Request-Method": str(method),
        "Access-Control-Request-Headers": "content-type,if-none-match",
    }

    allowed = await folder.http.options(presigned.url, headers={**asking, "Origin": APP})
    refused = await folder.http.options(
        presigned.url, headers={**asking, "Origin": "https://x.test"}
    )

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == APP
    assert "access-control-allow-origin" not in refused.headers


async def test_a_folder_that_cannot_be_written_is_answered_as_unavailable(
    folder: Place, tmp_path: Path
) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")

    answer = await folder.send(folder.presign(PUT)[1])

    assert code_of(answer) == (503, "STORAGE_UNAVAILABLE")


async def test_a_client_that_sends_single_bytes_times_out(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_uploads, "FIRST_SECONDS", 0.2)
    data = PICTURE[:20]

    async def drops() -> AsyncIterator[bytes]:
        for number in range(len(data)):
            yield data[number : number + 1]
            await asyncio.sleep(0.05)

    _, presigned = folder.presign(PUT, data=data)
    headers = {**presigned.headers, "Content-Length": str(len(data))}

    # It sends everything before it reads the answer, which closing the connection could lose.
    answer = await folder.http.put(presigned.url, headers=headers, content=drops())

    assert code_of(answer) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"


async def test_one_presigned_upload_does_not_use_the_capacity_of_others(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_uploads, "MAX_UPLOADS_PER_URL", 2)
    go_on = asyncio.Event()
    _, presigned = folder.presign(PUT)
    waiting = [await half_sent(folder, presigned, go_on) for _ in range(2)]

    async def is_busy() -> bool:
        answer = await folder.send(presigned, PICTURE[:-1])
        return code_of(answer) == (503, "STORAGE_UNAVAILABLE")

    await eventually(is_busy, within=10, what="the URL has no capacity left")
    others = await folder.send(folder.presign(PUT)[1])
    go_on.set()
    answers = await asyncio.gather(*waiting)

    assert others.is_success
    assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_one_owner_does_not_use_the_capacity_of_others(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_uploads, "MAX_UPLOADS_PER_OWNER", 2)
    go_on = asyncio.Event()
    waiting = [
        await half_sent(folder, folder.presign(PUT, owner="ana")[1], go_on) for _ in range(2)
    ]

    async def is_busy() -> bool:
        answer = await folder.send(folder.presign(PUT, owner="ana")[1], PICTURE[:-1])
        return code_of(answer) == (503, "STORAGE_UNAVAILABLE")

    await eventually(is_busy, within=10, what="ana's places are taken")
    others = await folder.send(folder.presign(PUT, owner="bob")[1])
    go_on.set()
    answers = await asyncio.gather(*waiting)

    assert others.is_success
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (await folder.send(folder.presign(PUT, owner="ana")[1])).is_success
