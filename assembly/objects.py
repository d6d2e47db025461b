"""The store of images and uploads: a bucket, or a folder with routes of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.routing import Route

from domain.errors import StoreUnavailable
from domain.ports.objects import Objects
from domain.signing import Signer
from edge.signed_objects import signed_object_routes
from edge.signed_uploads import signed_upload_routes
from settings import Settings, SettingsError, origin_pattern, variable_of
from storage.objects.folder import FolderObjectStore

if TYPE_CHECKING:
    from storage.objects.bucket import Bucket


@asynccontextmanager
async def open_objects(
    settings: Settings, signer: Signer
) -> AsyncIterator[tuple[Objects, Sequence[Route]]]:
    """The object store, and routes for its signed URLs and presigned uploads if it is a folder."""
    bucket = bucket_of(settings)
    if bucket is not None:
        from storage.objects.s3 import open_bucket  # noqa: PLC0415 - see `bucket_of`

        async with AsyncExitStack() as stack:
            opening = open_bucket(bucket, operation_seconds=settings.s3_seconds)
            try:
                store = await stack.enter_async_context(opening)
            except StoreUnavailable as error:
                raise SettingsError([f"{variable_of(Settings, 's3_bucket')}: {error}."]) from error
            yield store, ()
        return
    folder = FolderObjectStore(
        settings.data_dir / "objects", public_url=settings.public_url, signer=signer
    )
    origins = origin_pattern(settings.allowed_origins)
    try:
        yield (
            folder,
            [
                *signed_object_routes(folder),
                *signed_upload_routes(folder, origins=origins),
            ],
        )
    finally:
        await folder.aclose()


def image_origins(settings: Settings) -> Sequence[str]:
    """The origins of the URLs of images and uploads."""
    bucket = bucket_of(settings)
    url = urlsplit(settings.public_url if bucket is None else bucket.public_url)
    return [f"{url.scheme}://{url.netloc}"]


def bucket_of(settings: Settings) -> "Bucket | None":
    """The bucket that the settings name, if they do."""
    if settings.s3_bucket is None:
        return None
    # A quarter of the imports of an API process; without a bucket they are not needed.
    from storage.objects.bucket import Bucket  # noqa: PLC0415

    assert settings.s3_addressing
    return Bucket(
        name=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        addressing=settings.s3_addressing,
        key_id=settings.s3_key_id or "",
        secret=settings.s3_secret.get_secret_value() if settings.s3_secret else "",
    )
