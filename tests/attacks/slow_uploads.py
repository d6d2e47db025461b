"""Uploads that drip, by `PUT` and as a form: one byte every few seconds."""

import asyncio
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from tests.attacks.site import Site
from tests.clients import Data
from tests.edge.hostile import connection_to
from tests.uploads import begin_form, create, fields_of

DECLARED_BYTES: Final = 100_000
EVERY_SECONDS: Final = 2.0
_viewers = count()


async def present_upload(site: Site, method: str) -> Data:
    """Have an upload presigned for a new viewer."""
    client = site.client(f"uploads slowly {next(_viewers)}")
    try:
        file = {"contentType": "image/png", "byteSize": DECLARED_BYTES, "method": method}
        [upload] = await create(client, file)
        return upload
    finally:
        await client.aclose()


async def send_slowly(site: Site, upload: Data) -> None:
    """Send a part of an upload, and then a byte every few seconds, until the connection ends."""
    async with connection_to(site.api) as connection:
        await connection.send(_begin(upload))
        dripping = asyncio.create_task(connection.drip(b"a", every=EVERY_SECONDS))
        try:
            await connection.read_to_the_end()
        finally:
            dripping.cancel()


def _begin(upload: Data) -> bytes:
    """The head of the request, and of its form where it is one."""
    address = urlsplit(upload["url"])
    head = f"{upload['method']} {address.path}?{address.query} HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Length: {DECLARED_BYTES}\r\n"
    if upload["method"] == "PUT":
        head += "".join(f"{one['name']}: {one['value']}\r\n" for one in upload["headers"])
        return head.encode() + b"\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    return head.encode() + begin_form(fields_of(upload))
