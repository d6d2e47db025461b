"""What opens a private bucket to others: signed URLs, and presigned uploads.

They are signed here, without asking the server, and end with the credentials that signed them.
"""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from urllib.parse import urlsplit

from domain.object_keys import LINK_WINDOW_SECONDS, UPLOAD_URL_SECONDS, checked_upload, linked
from domain.ports.objects import Link
from domain.uploads import DeclaredFile, PresignedUpload, UploadAbilities, UploadMethod
from storage.objects.bucket import Bucket
from storage.objects.credentials import Credentials
from storage.objects.sigv4 import Condition, Sigv4Signer

LINK_SECONDS: Final = 2 * LINK_WINDOW_SECONDS
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class BucketSigner:
    """Signs for one address of a bucket: as clients reach it, or as this process does."""

    def __init__(self, bucket: Bucket, url: str, credentials: Credentials) -> None:
        self._bucket_name = bucket.name
        self._address = _Address.of(url)
        self._signer = Sigv4Signer(
            key_id=credentials.key_id,
            secret=credentials.secret,
            region=bucket.region,
            token=credentials.token,
        )
        self._signed_until = credentials.expires_at or _NEVER

    def sign_link(self, key: str, begin: int) -> Link:
        """A link from this time on, in seconds since 1970, for an hour."""
        path = f"{self._address.path}/{linked(key)}"
        query = self._signer.query(
            "GET",
            path,
            headers={"host": self._address.host},
            at=datetime.fromtimestamp(begin, UTC),
            seconds=LINK_SECONDS,
        )
        return Link(
            f"{self._address.origin}{path}?{query}",
            min(datetime.fromtimestamp(begin + LINK_SECONDS, UTC), self._signed_until),
        )

    def presign(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        abilities: UploadAbilities,
        now: datetime,
    ) -> PresignedUpload:
        """Sign an upload of this file. Raise ValueError where the store takes no forms."""
        checked_upload(key, file)
        if method is UploadMethod.PUT:
            return self._presign_put(key, file, now, once=abilities.takes_once)
        if not abilities.takes_forms:
            raise ValueError("the store takes no forms")
        return self._presign_form(key, file, now)

    def _presign_put(
        self, key: str, file: DeclaredFile, now: datetime, *, once: bool
    ) -> PresignedUpload:
        path = f"{self._address.path}/{key}"
        headers = {"Content-Type": file.content_type}
        if once:
            headers["If-None-Match"] = "*"
        if file.sha256 is not None:
            headers["x-amz-checksum-sha256"] = _in_base64(file.sha256)
        signed = {name.lower(): value for name, value in headers.items()}
        query = self._signer.query(
            "PUT",
            path,
            headers={**signed, "host": self._address.host, "content-length": str(file.byte_size)},
            at=now,
            seconds=UPLOAD_URL_SECONDS,
        )
        return PresignedUpload(
            url=f"{self._address.origin}{path}?{query}",
            method=UploadMethod.PUT,
            headers=headers,
            fields={},
            expires_at=min(now + timedelta(seconds=UPLOAD_URL_SECONDS), self._signed_until),
        )

    def _presign_form(self, key: str, file: DeclaredFile, now: datetime) -> PresignedUpload:
        expires_at = min(now + timedelta(seconds=UPLOAD_URL_SECONDS), self._signed_until)
        fields = {"key": key, "Content-Type": file.content_type}
        if file.sha256 is not None:
            fields["x-amz-checksum-algorithm"] = "SHA256"
            fields["x-amz-checksum-sha256"] = _in_base64(file.sha256)
        conditions: list[Condition] = [
            {"bucket": self._bucket_name},
            *({name: value} for name, value in fields.items()),
            ["content-length-range", file.byte_size, file.byte_size],
        ]
        return PresignedUpload(
            url=f"{self._address.origin}{self._address.path or '/'}",
            method=UploadMethod.POST,
            headers={},
            fields=fields | self._signer.form(conditions, at=now, until=expires_at),
            expires_at=expires_at,
        )


@dataclass(frozen=True, slots=True)
class _Address:
    """A bucket's URL, in the parts that are signed."""

    origin: str
    host: str
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(f"{parts.scheme}://{parts.netloc}", parts.netloc, parts.path)


def _in_base64(data: bytes) -> str:
    return b64encode(data).decode()
