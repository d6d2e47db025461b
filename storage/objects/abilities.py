"""What kinds of uploads a bucket takes. Servers of the S3 API differ, and no call says it.

Small files are sent as clients send theirs, and deleted again.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias

import httpx2
from botocore.awsrequest import AWSPreparedRequest, AWSRequest

from domain.errors import StoreUnavailable
from domain.images import new_key
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    PresignedUpload,
    UploadAbilities,
    UploadMethod,
)

_TYPE: Final = "image/png"
_DATA: Final = b"Darkroom finds out what uploads this bucket takes."
_FILE: Final = DeclaredFile(content_type=_TYPE, byte_size=len(_DATA))
_NOT_CONDITIONAL: Final = UploadAbilities(takes_once=False)
_UNABLE: Final = frozenset({501, 505})
_BUSY: Final = frozenset({408, 409, 425, 429})


class Presign(Protocol):
    def __call__(
        self, key: str, file: DeclaredFile, *, method: UploadMethod, abilities: UploadAbilities
    ) -> PresignedUpload: ...


Send: TypeAlias = Callable[[AWSPreparedRequest], Awaitable[int]]
"""Returns the status of the answer."""
Delete: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]


async def find_abilities(presign: Presign, send: Send, delete: Delete) -> UploadAbilities:
    """Try each kind of upload. Raise StoreUnavailable where the bucket takes no PUT at the moment,
    which every server can.
    """

    async def takes(key: str, method: UploadMethod, abilities: UploadAbilities) -> bool:
        status = await send(_request(presign(key, _FILE, method=method, abilities=abilities)))
        if status in _BUSY or (status >= 500 and status not in _UNABLE):
            raise StoreUnavailable(f"the bucket answered {status}")
        return 200 <= status < 300

    keys = [new_key("uploads", _TYPE) for _ in range(3)]
    try:
        takes_once = await takes(keys[0], UploadMethod.PUT, EVERY_ABILITY)
        # The condition is to blame only if the same upload is taken without it.
        if not takes_once and not await takes(keys[1], UploadMethod.PUT, _NOT_CONDITIONAL):
            raise StoreUnavailable("the bucket takes no uploads")
        takes_forms = await _unless_unavailable(takes(keys[2], UploadMethod.POST, EVERY_ABILITY))
    except StoreUnavailable:
        # If this task is cancelled, orphan collection deletes what is left.
        await delete(keys)
        raise
    await delete(keys)
    return UploadAbilities(takes_forms=takes_forms, takes_once=takes_once)


async def _unless_unavailable(takes: Awaitable[bool]) -> bool | None:
    try:
        return await takes
    except StoreUnavailable:
        return None


def _request(presigned: PresignedUpload) -> AWSPreparedRequest:
    body, headers = _DATA, dict(presigned.headers)
    if presigned.method is UploadMethod.POST:
        files = {"file": ("file", _DATA, _TYPE)}
        form = httpx2.Request("POST", presigned.url, data=dict(presigned.fields), files=files)
        body, headers = form.read(), {"Content-Type": form.headers["content-type"]}
    return AWSRequest(str(presigned.method), presigned.url, headers=headers, data=body).prepare()
