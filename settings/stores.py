"""Where Darkroom stores its documents and images, and how it notifies workers."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from settings.values import CaFile, FeedPartitions, HttpUrl, InLowerCase, Key

_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,38}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class StoreSettings(BaseModel):
    data_dir: Path = Field(
        default=Path(".data"),
        description="The folder for images, and in development also for the database and keys",
    )
    mongodb_uri: SecretStr | None = Field(
        default=None,
        description="The MongoDB replica set to use; without it, development starts a built-in "
        "mongod (needed in production)",
    )
    mongodb_ca_file: CaFile | None = Field(
        default=None,
        description="A PEM file with the certificate authorities of MongoDB's certificate, if they "
        "are private; with it, connections use TLS",
    )
    mongodb_database: str = Field(
        default="darkroom",
        description="The name of the database",
    )
    feed_partitions: FeedPartitions = Field(
        default=1,
        description="The number of partitions of the change feed (1, 32, 1024 or 32768): an API "
        "process reads only the partitions of its subscribers. With 1, each process reads all "
        "changes; raise it for ten or more API processes",
    )
    s3_bucket: str | None = Field(
        default=None,
        description="The S3 bucket for images; without it, they are kept in the data folder",
    )
    s3_endpoint: HttpUrl = Field(
        default="",
        description="The origin of the S3 server, with any implementation of the S3 API "
        "(default: https://s3.<region>.amazonaws.com)",
    )
    s3_public_endpoint: HttpUrl = Field(
        default="",
        description="The origin at which clients reach the S3 server, if it is a different one",
    )
    s3_region: str = Field(
        default="us-east-1",
        description="The region of the bucket; keep the default if the server has no regions",
    )
    s3_key_id: str | None = Field(
        default=None,
        description="The id of an access key for the bucket; without one, credentials are found as "
        "AWS' own tools find them, such as the role of an instance, container or pod",
    )
    s3_secret: Key | None = Field(
        default=None, description="The access key's secret (needed with its id)"
    )
    s3_addressing: Annotated[Literal["path", "virtual"] | None, InLowerCase] = Field(
        default=None,
        description="Where URLs contain the name of the bucket: `path`, or `virtual` for the host "
        "name (default: virtual at amazonaws.com, otherwise path)",
    )
    s3_seconds: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="The time limit of one call to the bucket in seconds, retries included",
    )
    nats_url: SecretStr | None = Field(
        default=None,
        description="The NATS server with JetStream that notifies workers of queued outputs "
        "(nats:// or tls://; servers of a cluster separated by commas); without it, the API "
        "process runs outputs itself",
    )
    nats_ca_file: CaFile | None = Field(
        default=None,
        description="A PEM file with the certificate authorities of the certificate of NATS, if "
        "they are private",
    )

    @field_validator("data_dir")
    @classmethod
    def _make_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _check_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if url.path or url.username is not None:
            raise PydanticCustomError("sentence", "should be an origin, without a path")
        # URLs are signed with the host as clients send it: lower case, without the default port.
        default = {"http": ":80", "https": ":443"}.get(url.scheme, "-")
        return f"{url.scheme}://{url.netloc.lower().removesuffix(default)}" if value else value

    @field_validator("s3_bucket", "s3_region")
    @classmethod
    def _check_s3_name(cls, value: str | None) -> str | None:
        if value and not _BUCKET.fullmatch(value):
            raise PydanticCustomError(
                "sentence", "should be 3 to 63 lower-case letters, digits, dots or -"
            )
        return value

    @field_validator("s3_key_id")
    @classmethod
    def _check_key_id(cls, value: str | None) -> str | None:
        if value and not _KEY_ID.fullmatch(value):
            raise PydanticCustomError("sentence", "should be letters and digits")
        return value

    @field_validator("mongodb_uri")
    @classmethod
    def _check_mongodb_uri(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise PydanticCustomError("sentence", "should begin with mongodb:// or mongodb+srv://")
        return value

    @field_validator("nats_url")
    @classmethod
    def _check_nats_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not all(map(_is_nats_server, value.get_secret_value().split(","))):
            raise PydanticCustomError(
                "sentence", "should begin with nats:// or tls:// and name a server"
            )
        return value

    @field_validator("mongodb_database")
    @classmethod
    def _check_database_name(cls, value: str) -> str:
        if not _DATABASE.fullmatch(value):
            raise PydanticCustomError("sentence", "should be 1 to 38 letters, digits, _ or -")
        return value


def add_ca_file(uri: str, path: Path) -> str:
    """The MongoDB URI with TLS enabled, and this file as the certificate authorities."""
    start, question_mark, options = uri.partition("?")
    if not question_mark and "/" not in start.partition("://")[2]:
        start += "/"
    added = urlencode({"tls": "true", "tlsCAFile": path}, quote_via=quote)
    return f"{start}?{options}{'&' if options else ''}{added}"


def _is_nats_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:
        return False
    rest = parts.path.strip("/") or parts.query or parts.fragment
    return parts.scheme in {"nats", "tls"} and bool(parts.hostname) and has_port and not rest
