"""`python -m bench.gallery`: what a page of the gallery costs, and each link on it.

A page is 50 images with three links each, in a folder and in a bucket, against a bare read of the
same 50 documents. Nothing answers in the bucket's place: who makes a link asks nobody.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from pymongo import AsyncMongoClient

from bench.darkroom import Document, a_darkroom, compare
from domain.ids import ViewerId, new_image_id
from domain.images import Image, ImageOrigin, ImageRecord, new_key
from domain.signing import Signer
from storage.mongo.images import record_document
from storage.objects.folder import FolderObjectStore
from storage.objects.s3 import Bucket, open_bucket, open_client
from tests.clients import GraphQLClient

IMAGES = 50
LINKS = 2_000
PAGE = """
{ viewer { images(first: 50) { nodes {
  id url small: url(width: 256) large: url(width: 1024) urlExpiresAt
  width height contentType thumbhash favourite origin prompt createdAt
} } } }
"""
NOWHERE = "http://127.0.0.1:9"
BUCKET = {
    "DARKROOM_S3_BUCKET": "bench",
    "DARKROOM_S3_ENDPOINT": NOWHERE,
    "DARKROOM_S3_KEY_ID": "bench",
    "DARKROOM_S3_SECRET": "bench",
}


async def time_page(name: str, client: GraphQLClient, bare: AsyncMongoClient[Document]) -> None:
    viewer_id = ViewerId((await client("{ viewer { id } }"))["viewer"]["id"])
    images = bare["darkroom"]["images"]
    await images.delete_many({})
    await images.insert_many([record_document(viewer_id, _a_record()) for _ in range(IMAGES)])
    body = json.dumps({"query": PAGE})
    headers = {"content-type": "application/json"}

    async def ours() -> None:
        answer = await client.http.post("/graphql", content=body, headers=headers)
        assert len(answer.json()["data"]["viewer"]["images"]["nodes"]) == IMAGES

    async def theirs() -> None:
        newest_first = images.find({"ownerId": viewer_id}).sort({"createdAt": -1, "_id": -1})
        assert len(await newest_first.limit(IMAGES + 1).to_list()) == IMAGES

    await ours()
    await theirs()
    await compare(f"a page of 50 images in a {name}", ours, "bare find", theirs)


async def time_links() -> None:
    bucket = Bucket(
        name="bench",
        region="us-east-1",
        endpoint=NOWHERE,
        public_endpoint=NOWHERE,
        addressing="path",
        key_id="bench",
        secret="bench",
    )
    keys = [new_key("images", "image/png") for _ in range(LINKS)]
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            kept = FolderObjectStore(Path(folder), public_url=NOWHERE, signer=Signer(b"bench"))
            stack.push_async_callback(kept.aclose)
            store = await stack.enter_async_context(open_bucket(bucket))
            client = await stack.enter_async_context(open_client(bucket))
            _time_each("in a folder", keys, kept.link)
            _time_each("in a bucket, signed", keys, store.link)
            _time_each("in a bucket, remembered", keys, store.link)
            began = time.perf_counter()
            for key in keys:
                await client.generate_presigned_url("get_object", {"Bucket": "bench", "Key": key})
            _tell("in a bucket, signed by botocore", time.perf_counter() - began)


def _time_each(name: str, keys: list[str], link: Callable[[str], object]) -> None:
    began = time.perf_counter()
    for key in keys:
        link(key)
    _tell(name, time.perf_counter() - began)


def _tell(name: str, seconds: float) -> None:
    print(f"a signed URL, {name}: {1e6 * seconds / LINKS:.1f} µs")


def _a_record() -> ImageRecord:
    image = Image(
        id=new_image_id(),
        key=new_key("images", "image/png"),
        width=1536,
        height=1024,
        content_type="image/png",
        byte_size=2_000_000,
        thumbhash="3OcRJYB4d3h/iIeHeEh3eIhw+j2w",
        rendition_widths=(256, 512, 1024),
        origin=ImageOrigin.UPLOAD,
        model_id=None,
        seed=None,
        output_id=None,
        created_at=datetime.now(UTC),
    )
    return ImageRecord(image, "A boat", ())


async def main() -> None:
    await time_links()
    settings: dict[str, dict[str, str]] = {"folder": {}, "bucket": BUCKET}
    for name, more in settings.items():
        async with a_darkroom(**more) as (client, bare, _):
            await time_page(name, client, bare)


if __name__ == "__main__":
    asyncio.run(main())
