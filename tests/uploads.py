"""How a client uploads pictures: it declares them, sends them to the store, and completes them."""

from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any

import httpx2
from PIL import Image

from tests.clients import Data, GraphQLClient
from tests.http import open_http

CREATE = """
mutation CreateUploads($files: [UploadFileInput!]!) {
  createUploads(input: {files: $files}) {
    uploads {
      id url method expiresAt filename headers { name value } fields { name value }
    }
    userErrors { code message path }
  }
}
"""

COMPLETE = """
mutation CompleteUpload($id: ID!) {
  completeUpload(input: {uploadId: $id}) {
    image {
      id origin width height contentType byteSize thumbhash url thumbnail: url(width: 256)
      urlExpiresAt prompt seed favourite createdAt model { id } turn { id } output { id }
      madeFrom { id }
    }
    userErrors { code message path }
  }
}
"""


def a_picture(
    size: tuple[int, int] = (64, 48), *, format: str = "PNG", colour: str = "teal", **options: Any
) -> bytes:
    written = BytesIO()
    Image.new("RGB", size, colour).save(written, format, **options)
    return written.getvalue()


def declared(data: bytes, content_type: str = "image/png", **more: object) -> Data:
    return {"contentType": content_type, "byteSize": len(data), **more}


def with_digest(data: bytes, content_type: str = "image/png", **more: object) -> Data:
    return declared(data, content_type, sha256=sha256(data).hexdigest(), **more)


async def create_or_refuse(client: GraphQLClient, *files: Data) -> Data:
    payload: Data = (await client(CREATE, files=list(files)))["createUploads"]
    return payload


async def create(client: GraphQLClient, *files: Data) -> list[Data]:
    payload = await create_or_refuse(client, *files)
    assert payload["userErrors"] == []
    uploads: list[Data] = payload["uploads"]
    return uploads


async def send_file(upload: Data, data: bytes) -> httpx2.Response:
    """Do as the presigned upload says, with a client that knows nothing else."""
    async with open_http(timeout=20) as http:
        if upload["method"] == "PUT":
            headers = {one["name"]: one["value"] for one in upload["headers"]}
            return await http.put(upload["url"], headers=headers, content=data)
        files = {"file": ("IMG_0001.png", data, "application/octet-stream")}
        return await http.post(upload["url"], data=fields_of(upload), files=files)


def form_part(disposition: str, value: bytes) -> bytes:
    """A part of a form with the boundary `x`."""
    head = f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + value + b"\r\n"


def begin_form(fields: Mapping[str, str]) -> bytes:
    """The beginning of a form with the boundary `x`, up to the bytes of its file."""
    parts = [form_part(f'name="{name}"', value.encode()) for name, value in fields.items()]
    file = form_part('name="file"; filename="a"', b"")
    return b"".join([*parts, file]).removesuffix(b"\r\n")


def fields_of(upload: Data) -> dict[str, str]:
    return {one["name"]: one["value"] for one in upload["fields"]}


async def complete_or_refuse(client: GraphQLClient, upload_id: str) -> Data:
    payload: Data = (await client(COMPLETE, id=upload_id))["completeUpload"]
    return payload


async def complete(client: GraphQLClient, upload_id: str) -> Data:
    """The image."""
    payload = await complete_or_refuse(client, upload_id)
    assert payload["userErrors"] == []
    image: Data = payload["image"]
    return image


async def sent(
    client: GraphQLClient, data: bytes, content_type: str = "image/png", **more: object
) -> Data:
    """An upload whose bytes have been sent."""
    [upload] = await create(client, declared(data, content_type, **more))
    answer = await send_file(upload, data)
    assert answer.is_success, answer.text
    return upload


async def uploaded(
    client: GraphQLClient, data: bytes | None = None, content_type: str = "image/png"
) -> Data:
    """The image of a picture that the viewer has brought."""
    upload = await sent(client, data or a_picture(), content_type)
    return await complete(client, upload["id"])
