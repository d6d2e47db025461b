"""Settings: everything that the environment decides, read once at the start and passed on.

`python -m settings` prints `.env.example`, `python -m settings --table` the same as Markdown.
"""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from secrets import token_urlsafe
from textwrap import wrap
from typing import Annotated, Any, Final, Literal, Self, cast, get_args
from urllib.parse import quote, urlencode, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX: Final = "DARKROOM_"
TEST_PREFIX: Final = "DARKROOM_TEST_"
ENV_FILE: Final = ".env"
FILE_SUFFIX: Final = "_FILE"
"""After the name of a secret setting: names a file that has its value."""
WORKER_GRACE_SECONDS: Final = 200.0
NEEDED_IN_PRODUCTION: Final = (
    "mongodb_uri",
    "secret",
    "token_issuer",
)
TokenAlgorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]
"""Signatures by a private key: who can verify one can make none."""
DEFAULT_TOKEN_ALGORITHMS: Final[tuple[TokenAlgorithm, ...]] = ("RS256", "ES256", "EdDSA", "Ed25519")
NO_PARTY: Final = "none"
"""Among the authorized parties: a token without `azp` is accepted too."""
ONLY_IN_PRODUCTION: Final = (
    "jwks_url",
    "token_issuer",
    "token_audience",
    "token_authorized_parties",
    "token_algorithms",
    "token_max_seconds",
)

_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,38}")
_KEY = re.compile(r"[!-~]+")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(:(\*|[0-9]{1,5}))?")
_LOCAL_ORIGINS = (
    "http://localhost",
    "http://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
)


class SettingsError(Exception):
    """The settings are incomplete or wrong. `problems` are sentences for a person."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def may_fetch_keys_from(url: str) -> bool:
    """Keys decide who is let in, and who pays: over the network they are sent through TLS only."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def may_discover(issuer: str) -> bool:
    """Whether the issuer can be asked where its keys are."""
    try:
        parts = urlsplit(issuer)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
    return is_url and not parts.query and not parts.fragment and may_fetch_keys_from(issuer)


def _http_url(value: str) -> str:
    if not value:
        return value
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        raise PydanticCustomError("sentence", "should be an http or https URL")
    return value.rstrip("/")


def _https_url(value: str) -> str:
    url = _http_url(value)
    if url and not may_fetch_keys_from(url):
        raise PydanticCustomError("sentence", "should begin with https://")
    return url


def _header_value(value: SecretStr) -> SecretStr:
    # What does not fit into a header would be quoted by an error.
    if not _KEY.fullmatch(value.get_secret_value()):
        raise PydanticCustomError("sentence", "should be letters, digits and signs, no spaces")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
"""Plain http is for loopback."""
Key = Annotated[SecretStr, AfterValidator(_header_value)]

_KEY_FIELD: Final[Any] = Field(
    default=None, description="An API key of {}; without one, its models are listed as unavailable"
)
_MAX_CONCURRENT_RUNS_FIELD: Final[Any] = Field(
    default=20,
    validation_alias="places",  # in the variable's name
    ge=1,
    le=1000,
    description="How many outputs one process runs at {} at the same time",
)


class ProviderSettings(BaseModel, frozen=True):
    """What is needed to use a provider: DARKROOM_FAL_KEY is `settings.fal.key`.

    The descriptions are completed with the provider's name.
    """

    key: Key | None = _KEY_FIELD
    url: HttpsUrl = Field(
        default="", description="The API URL of {}; plain http on loopback only, for a simulator"
    )
    max_concurrent_runs: int = _MAX_CONCURRENT_RUNS_FIELD


class AzureSettings(BaseModel, frozen=True):
    key: Key | None = _KEY_FIELD
    url: HttpsUrl | None = Field(
        default=None,
        description="The origin of the {} resource, such as https://name.openai.azure.com (needed "
        "with its key)",
    )
    api_version: str = Field(
        default="preview",
        description="`preview`, or nothing, for Azure's v1 API; a date for the URLs that contain "
        "the deployment",
    )
    deployments: Annotated[dict[str, str], NoDecode] = Field(
        default={},
        description="Names of deployments, such as gpt-image-2=ours, separated by commas; any "
        "other model has a deployment of its own name",
    )
    max_concurrent_runs: int = _MAX_CONCURRENT_RUNS_FIELD

    @field_validator("deployments", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(model.strip() and name.strip() for model, _, name in pairs):
            raise PydanticCustomError(
                "sentence", "should list pairs such as gpt-image-2=ours, separated by commas"
            )
        return {model.strip(): name.strip() for model, _, name in pairs}


class Limits(BaseModel, frozen=True):
    """What one client may ask for, and for how long it may take: DARKROOM_LIMIT_AGE_SECONDS is
    `settings.limit.age_seconds`.

    A viewer's bucket holds what may be used at once; it is filled again by so much per second. Who
    sends no token is known by their address.
    """

    viewer_requests: int = Field(
        default=100, ge=1, description="How many operations a viewer may run at once"
    )
    viewer_requests_per_second: float = Field(
        default=20, gt=0, description="How many more operations a viewer may run each second"
    )
    address_requests: int = Field(
        default=60,
        ge=1,
        description="How many operations clients without a token may run at once, by address",
    )
    address_requests_per_second: float = Field(
        default=5,
        gt=0,
        description="How many more operations clients without a token may run each second",
    )
    cost: int = Field(
        default=20_000,
        ge=1,
        description="The cost that a viewer's operations, or those of an address without a token, "
        "may have at once",
    )
    cost_per_second: float = Field(
        default=500, gt=0, description="The cost that their further operations may have each second"
    )
    requests_in_flight: int = Field(
        default=20,
        ge=1,
        description="How many operations one client may have running in a process; those of "
        "WebSockets wait for each other, those over HTTP are refused",
    )
    process_requests_in_flight: int = Field(
        default=200, ge=1, description="How many operations may be running in a process"
    )
    viewer_sockets: int = Field(
        default=10, ge=1, description="How many WebSockets a viewer may have to a process"
    )
    address_sockets: int = Field(
        default=20,
        ge=1,
        description="How many WebSockets of one address may wait for their token in a process",
    )
    process_sockets: int = Field(
        default=12_000, ge=1, description="How many WebSockets a process may have"
    )
    socket_age_seconds: float = Field(
        default=43_200, gt=0, description="After how many seconds a WebSocket is closed with 1012"
    )
    socket_operations: int = Field(
        default=50, ge=1, description="How many operations one WebSocket may run at the same time"
    )
    viewer_subscriptions: int = Field(
        default=100,
        ge=1,
        description="How many subscriptions a viewer may have in a process, over all transports",
    )
    address_subscriptions: int = Field(
        default=1_000,
        ge=1,
        description="How many subscriptions clients without a token may have in a process, by "
        "address, and how many WebSockets: readers of what is shared",
    )
    socket_messages: int = Field(
        default=100, ge=1, description="How many messages a WebSocket may send in 10 seconds"
    )
    init_seconds: float = Field(
        default=5, gt=0, description="How long a WebSocket may take to send its token"
    )
    ping_seconds: float = Field(
        default=20, gt=0, description="How often a WebSocket is sent a ping"
    )
    pong_seconds: float = Field(
        default=15, gt=0, description="How long it may take to answer; then it is closed with 1001"
    )
    send_seconds: float = Field(
        default=15,
        gt=0,
        description="How long a client may read nothing of what is sent to it, over any transport",
    )
    operation_seconds: float = Field(
        default=10,
        gt=0,
        description="How long a query or mutation may take, and a subscription until it is open",
    )


def _provider(name: str, url: str) -> Any:
    return Field(default=ProviderSettings(url=url), title=name)


class Settings(BaseSettings):
    """What can be configured about one Darkroom process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    environment: Literal["development", "production"] = Field(
        default="development",
        description="`development` listens on this machine only and issues its own tokens; "
        "`production` accepts the tokens of an identity provider and requires the settings that "
        "are needed there",
    )
    host: str = Field(
        default="127.0.0.1",
        description="The address to listen on; in development it must be a loopback address",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="The port to listen on")
    metrics_host: str = Field(
        default="127.0.0.1",
        description="The address for operators: it answers /metrics, /healthz and /readyz. Keep it "
        "away from clients",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The port of that address; without it, there is none",
    )
    public_url: HttpUrl = Field(
        default="",
        description="The URL at which clients reach Darkroom, without a slash at the end; image "
        "URLs begin with it (default: http://<host>:<port>)",
    )
    data_dir: Path = Field(
        default=Path(".data"),
        description="The folder for images, and in development for the database and keys",
    )
    mongodb_uri: SecretStr | None = Field(
        default=None,
        description="The MongoDB replica set to use; without it, development starts a built-in "
        "mongod (needed in production)",
    )
    mongodb_ca_file: Path | None = Field(
        default=None,
        description="A PEM file with the authorities of MongoDB's certificate, if they are "
        "private; with it, connections are encrypted",
    )
    mongodb_database: str = Field(
        default="darkroom",
        description="The name of the database",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of the proxies in front of Darkroom, such as "
        "10.0.0.0/8, separated by commas: their X-Forwarded-For is believed, and nobody else's",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The names under which clients reach Darkroom, without a port, separated by "
        "commas; requests with another Host are answered with 400 (default: any in development, "
        "and that of DARKROOM_PUBLIC_URL in production)",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of browser apps that may call the API, separated by commas; * stands "
        "for any port (development default: any port of localhost and 127.0.0.1)",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged: debug, info, warning or error"
    )
    secret: SecretStr | None = Field(
        default=None,
        description="At least 32 random characters that sign cursors and URLs; development "
        "generates its own (needed in production)",
    )
    other_secret: SecretStr | None = Field(
        default=None,
        description="A second secret, whose signatures are accepted too while DARKROOM_SECRET is "
        "being replaced",
    )
    token_issuer: str | None = Field(
        default=None,
        min_length=1,
        description="The `iss` of accepted tokens, exactly as the issuer writes it (needed in "
        "production, only used there)",
    )
    jwks_url: HttpsUrl | None = Field(
        default=None,
        description="The https URL where the token issuer publishes its keys (only used in "
        "production; default: what <issuer>/.well-known/openid-configuration names)",
    )
    token_audience: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The accepted values of `aud`, separated by commas: a token needs one of them. "
        "Without it only tokens without `aud` are accepted (only used in production)",
    )
    token_authorized_parties: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The accepted values of `azp`, separated by commas; `none` among them accepts "
        "tokens without `azp`. Without it `azp` is not checked (only used in production)",
    )
    token_algorithms: Annotated[tuple[TokenAlgorithm, ...], NoDecode] = Field(
        default=DEFAULT_TOKEN_ALGORITHMS,
        min_length=1,
        description="The accepted algorithms of tokens, separated by commas, among "
        f"{', '.join(get_args(TokenAlgorithm))} (only used in production)",
    )
    token_max_seconds: int = Field(
        default=86_400,
        ge=60,
        le=2_592_000,
        description="The longest accepted life of a token in seconds, from `iat` to `exp` (only "
        "used in production)",
    )
    s3_bucket: str | None = Field(
        default=None,
        description="The S3 bucket for images; without it, they are kept in the data folder",
    )
    s3_endpoint: HttpUrl = Field(
        default="",
        description="The origin of the server that has the bucket; any that speaks the S3 API "
        "(default: https://s3.<region>.amazonaws.com)",
    )
    s3_public_endpoint: HttpUrl = Field(
        default="",
        description="The origin at which clients reach that server, if it is another one",
    )
    s3_region: str = Field(
        default="us-east-1",
        description="The region of the bucket; leave it where the server has no regions",
    )
    s3_key_id: str | None = Field(
        default=None,
        description="The id of an access key for the bucket; without one, the "
        "credentials are those that the platform gives, as AWS' own tools find them",
    )
    s3_secret: Key | None = Field(
        default=None, description="The access key's secret (needed with its id)"
    )
    s3_addressing: Literal["path", "virtual"] | None = Field(
        default=None,
        description="Where URLs have the name of the bucket: in the path, or before the host name "
        "(default: virtual at amazonaws.com, otherwise path)",
    )
    s3_seconds: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="The time limit of one call to the bucket in seconds, retry included",
    )
    nats_url: SecretStr | None = Field(
        default=None,
        description="The NATS server with JetStream that notifies worker processes of outputs to "
        "run (nats:// or tls://; servers of a cluster separated by commas); without it, the API "
        "process runs outputs itself",
    )
    nats_ca_file: Path | None = Field(
        default=None,
        description="A PEM file with the authorities of the certificate of NATS, if they are "
        "private",
    )
    starting_credits: int | None = Field(
        default=None,
        ge=0,
        description="Credits of a viewer seen for the first time (development default: 10000, "
        "otherwise 0)",
    )
    max_active_outputs: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="How many queued and running outputs a viewer may have at the same time",
    )
    max_upload_bytes: int = Field(
        default=5_000_000,
        ge=1,
        le=50_000_000,
        description="The largest size of an uploaded image in bytes",
    )
    restore_days: int = Field(
        default=0,
        ge=0,
        le=365,
        description="How many days a deleted conversation can be restored for. 0: it is deleted "
        "at once",
    )
    max_import_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        le=4_000_000_000,
        description="The largest size of an export that is imported, in bytes",
    )
    c2pa_certificate: Path | None = Field(
        default=None,
        description="A PEM file with the certificate that signs generated images (Content "
        "Credentials), followed by those above it; needs requirements/c2pa.txt",
    )
    c2pa_key: Path | None = Field(
        default=None,
        description="A PEM file with the private key of that certificate (needed with it)",
    )
    catalogue: Path | None = Field(
        default=None,
        description="A TOML file of your own beside Darkroom's model catalogue: other prices and "
        "names, another order, hidden models",
    )
    default_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The models to use where none is selected and none is inherited, by id or "
        "alias, separated by commas: the first one that is available and supports the scene "
        "(default: the first such model of the catalogue, local ones last)",
    )
    default_caption_models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The caption models to use where none is selected, by id or alias, separated "
        "by commas: the first one that is available (default: the first such model of the "
        "catalogue, local ones last)",
    )
    local_models: bool | None = Field(
        default=None,
        description="Whether the built-in local models can be used (default: on in development, "
        "off in production)",
    )
    fal: ProviderSettings = _provider("fal", "https://queue.fal.run")
    openai: ProviderSettings = _provider("OpenAI", "https://api.openai.com/v1")
    azure: AzureSettings = Field(default=AzureSettings(), title="Azure OpenAI")
    gemini: ProviderSettings = _provider("Gemini", "https://generativelanguage.googleapis.com")
    openrouter: ProviderSettings = _provider("OpenRouter", "https://openrouter.ai/api/v1")
    replicate: ProviderSettings = _provider("Replicate", "https://api.replicate.com/v1")
    wavespeed: ProviderSettings = _provider("Wavespeed", "https://api.wavespeed.ai/api/v3")
    trusted_documents: Path | None = Field(
        default=None,
        description="A JSON file of GraphQL documents by id, which clients may name by "
        "`documentId` or their digest: as graphql-codegen or Relay write it, or a manifest of "
        "Apollo's",
    )
    only_trusted_documents: bool = Field(
        default=False, description="Whether all other documents are refused"
    )
    limit: Limits = Field(default=Limits())
    start_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description="How many seconds a process that starts waits for its database",
    )
    shutdown_grace: float = Field(
        default=20.0,
        ge=0,
        le=600,
        validation_alias=f"{PREFIX}GRACE",
        description="How many seconds requests, and runs that no other process could continue, get "
        "to finish when Darkroom is stopped (default of a worker: 200)",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - of another convention
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls)

    @field_validator("environment", "log_level", "s3_addressing", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _from_the_root(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("mongodb_ca_file", "nats_ca_file")
    @classmethod
    def _a_file(cls, value: Path | None) -> Path | None:
        path = value and value.expanduser().absolute()
        if path is not None and not path.is_file():
            raise PydanticCustomError(
                "sentence", "should name a file; {path} is none", {"path": str(path)}
            )
        return path

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _an_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if url.path or url.username is not None:
            raise PydanticCustomError("sentence", "should be an origin, without a path")
        # URLs are signed with the host as clients send it: lower case, without the default port.
        default = {"http": ":80", "https": ":443"}.get(url.scheme, "-")
        return f"{url.scheme}://{url.netloc.lower().removesuffix(default)}" if value else value

    @field_validator("s3_bucket", "s3_region")
    @classmethod
    def _a_name_of_s3(cls, value: str | None) -> str | None:
        if value and not _BUCKET.fullmatch(value):
            raise PydanticCustomError(
                "sentence", "should be 3 to 63 lower-case letters, digits, dots or -"
            )
        return value

    @field_validator("s3_key_id")
    @classmethod
    def _a_key_id(cls, value: str | None) -> str | None:
        if value and not _KEY_ID.fullmatch(value):
            raise PydanticCustomError("sentence", "should be letters and digits")
        return value

    @field_validator("mongodb_uri")
    @classmethod
    def _a_mongodb_uri(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise PydanticCustomError("sentence", "should begin with mongodb:// or mongodb+srv://")
        return value

    @field_validator("nats_url")
    @classmethod
    def _nats_servers(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not all(map(_is_nats_server, value.get_secret_value().split(","))):
            raise PydanticCustomError(
                "sentence", "should begin with nats:// or tls:// and name a server"
            )
        return value

    @field_validator("mongodb_database")
    @classmethod
    def _a_database_name(cls, value: str) -> str:
        if not _DATABASE.fullmatch(value):
            raise PydanticCustomError("sentence", "should be 1 to 38 letters, digits, _ or -")
        return value

    @field_validator("secret", "other_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < 32:
            raise PydanticCustomError("sentence", "should have at least 32 characters")
        return value

    @field_validator(
        "trusted_proxies",
        "allowed_hosts",
        "allowed_origins",
        "default_models",
        "default_caption_models",
        "token_audience",
        "token_authorized_parties",
        "token_algorithms",
        mode="before",
    )
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise PydanticCustomError(
                    "sentence",
                    "should list addresses and networks such as 10.0.0.0/8; {network} is none",
                    {"network": repr(network)},
                ) from None
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "sentence",
                    "should list origins such as https://app.example.com, without a path; "
                    "{origin} is not one",
                    {"origin": repr(origin)},
                )
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise PydanticCustomError("sentences", "{text}", {"text": "\n".join(problems)})
        if not self.allowed_hosts and self.public_url and self.environment == "production":
            host = urlsplit(self.public_url).hostname or ""
            self._fill("allowed_hosts", (f"[{host}]" if ":" in host else host,))
        if not self.public_url:
            host = f"[{self.host}]" if ":" in self.host else self.host
            self._fill("public_url", f"http://{host}:{self.port}")
        if not self.allowed_origins and self.environment == "development":
            self._fill("allowed_origins", _LOCAL_ORIGINS)
        if not self.s3_endpoint:
            self._fill("s3_endpoint", f"https://s3.{self.s3_region}.amazonaws.com")
        if not self.s3_public_endpoint:
            self._fill("s3_public_endpoint", self.s3_endpoint)
        if self.s3_addressing is None:
            at_aws = (urlsplit(self.s3_endpoint).hostname or "").endswith(".amazonaws.com")
            self._fill("s3_addressing", "virtual" if at_aws else "path")
        if self.mongodb_uri is not None and self.mongodb_ca_file is not None:
            uri = self.mongodb_uri.get_secret_value()
            self._fill("mongodb_uri", SecretStr(_with_authorities(uri, self.mongodb_ca_file)))
        if self.starting_credits is None:
            self._fill("starting_credits", 10_000 if self.environment == "development" else 0)
        if self.local_models is None:
            self._fill("local_models", self.environment == "development")
        return self

    def _fill(self, name: str, value: object) -> None:
        # A default that depends on other settings.
        self.__dict__[name] = value

    def _contradictions(self) -> Iterator[str]:
        for first, second, names in (
            (self.azure.key, self.azure.url, ("AZURE_KEY", "AZURE_URL")),
            (self.s3_key_id, self.s3_secret, ("S3_KEY_ID", "S3_SECRET")),
            (self.c2pa_certificate, self.c2pa_key, ("C2PA_CERTIFICATE", "C2PA_KEY")),
        ):
            if (first is None) != (second is None):
                yield " and ".join(PREFIX + name for name in names) + " must be set together."
        if self.s3_key_id is not None and self.s3_bucket is None:
            yield f"{PREFIX}S3_KEY_ID needs {PREFIX}S3_BUCKET."
        if self.only_trusted_documents and self.trusted_documents is None:
            yield (
                f"{PREFIX}ONLY_TRUSTED_DOCUMENTS needs {PREFIX}TRUSTED_DOCUMENTS, the file that "
                "lists them."
            )
        if self.environment == "development":
            if not is_loopback(self.host):
                yield (
                    f"{PREFIX}HOST={self.host} can be reached from other machines, and in "
                    "development anyone could issue tokens: use 127.0.0.1, or set "
                    f"{PREFIX}ENVIRONMENT=production."
                )
            for name in ONLY_IN_PRODUCTION:
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield (
                        f"{variable_of(name)} has no effect in development: leave it out, or set "
                        f"{PREFIX}ENVIRONMENT=production."
                    )
        else:
            for name in NEEDED_IN_PRODUCTION:
                if getattr(self, name) is None:
                    yield f"{variable_of(name)} is needed in production."
            if self.token_issuer and not self.jwks_url and not may_discover(self.token_issuer):
                yield (
                    f"{variable_of('jwks_url')} is needed, since {variable_of('token_issuer')} is "
                    "no https URL that names it."
                )


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or a `SettingsError` that names everything that is wrong.

    `environ` is only searched for unknown variables; values come from the process.
    """
    try:
        of_file = dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{ENV_FILE} cannot be read: {error}."]) from error
    given = {**of_file, **(os.environ if environ is None else environ)}
    problems = [*_unknown(given), *_read_secret_files(given)[1]]
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [line for details in error.errors() for line in _sentences(details)]
    if problems:
        raise SettingsError(problems)
    return settings


def settings_of_worker(settings: Settings) -> Settings:
    """A worker waits longer: a run takes minutes, a request seconds."""
    if "shutdown_grace" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"shutdown_grace": WORKER_GRACE_SECONDS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One environment variable."""

    name: str
    description: str
    default: object
    is_secret: bool = False
    """Whether its value may be in a file, which the variable with `FILE_SUFFIX` names."""


def variables() -> Iterator[Variable]:
    """All of them, in the order in which they are documented."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            for inner_name, inner in type(field.default).model_fields.items():
                alias = inner.validation_alias
                yield Variable(
                    name=variable_of(name, alias if isinstance(alias, str) else inner_name),
                    description=(inner.description or "").format(field.title),
                    default=getattr(field.default, inner_name),
                    is_secret=_is_secret(inner.annotation),
                )
        else:
            yield Variable(
                name=variable_of(name),
                description=field.description or "",
                default=field.default,
                is_secret=_is_secret(field.annotation),
            )


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


def variable_of(*path: str) -> str:
    """The environment variable of a field, such as `port` or `fal`, `key`."""
    alias = Settings.model_fields[path[0]].validation_alias
    return alias if isinstance(alias, str) else PREFIX + "_".join(path).upper()


def secrets_in(settings: BaseModel) -> Iterator[str]:
    """Every secret value, so that it can be redacted."""
    for _, value in settings:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets_in(value)


def _with_authorities(uri: str, path: Path) -> str:
    """A MongoDB URI by which connections are encrypted, and certificates checked with this file."""
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
    beyond = parts.path.strip("/") or parts.query or parts.fragment
    return parts.scheme in {"nats", "tls"} and bool(parts.hostname) and has_port and not beyond


def origin_pattern(origins: Iterable[str]) -> str:
    """A regular expression that matches, as a whole, each origin that is allowed."""
    return "|".join(re.escape(origin).replace(r"\*", "[0-9]{1,5}") for origin in origins) or r"(?!)"


def other_secrets_of(settings: Settings) -> tuple[bytes, ...]:
    """Keys whose signatures are accepted beside those of `secret_of`."""
    other = settings.other_secret
    return () if other is None else (other.get_secret_value().encode(),)


def secret_of(settings: Settings) -> bytes:
    """The key that signs cursors and URLs. Development keeps one in the data folder."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return keep_secret(settings.data_dir / "secret", lambda: token_urlsafe(32).encode())


def keep_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file that only its owner can read; written first if there is none.

    Of two processes that write it at the same time, one wins and both return its content.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Written under another name first, so that no reader sees half a key.
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            Path(draft).unlink()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    return path.read_bytes()


class _SecretFiles(EnvSettingsSource):
    """Takes secrets from files, as orchestrators mount them: DARKROOM_SECRET_FILE names one."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        values, _ = _read_secret_files({**dotenv_values(ENV_FILE), **os.environ})
        return {name.lower(): value for name, value in values.items()}


def _read_secret_files(environ: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """The values of secret settings that files have, and what is wrong with those files."""
    given = {name.upper(): value for name, value in environ.items() if value}
    values: dict[str, str] = {}
    problems: list[str] = []
    for secret in (one.name for one in variables() if one.is_secret):
        path = given.get(secret + FILE_SUFFIX)
        if path is None:
            continue
        if secret in given:
            problems.append(f"Set {secret} or {secret}{FILE_SUFFIX}, not both.")
            continue
        try:
            value = Path(path).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it is not text"
            problems.append(f"{secret}{FILE_SUFFIX}={path} cannot be read: {reason}.")
            continue
        if not value:
            problems.append(f"{secret}{FILE_SUFFIX}={path} is empty.")
        values[secret] = value
    return values, problems


def _unknown(environ: Mapping[str, str | None]) -> Iterator[str]:
    known = {variable.name for variable in variables()}
    known |= {variable.name + FILE_SUFFIX for variable in variables() if variable.is_secret}
    for name in sorted(environ):
        variable = name.upper()
        if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
            continue
        if variable not in known:
            meant = get_close_matches(
                variable.removeprefix(PREFIX),
                sorted(name.removeprefix(PREFIX) for name in known),
                n=1,
            )
            hint = f"Did you mean {PREFIX}{meant[0]}?" if meant else "See .env.example."
            yield f"{name} is not a setting of Darkroom. {hint}"


def _sentences(details: ErrorDetails) -> list[str]:
    if details["type"] == "sentences":
        return details["msg"].splitlines()
    path = [str(step) for step in details["loc"]]
    if path and path[0] in Settings.model_fields:
        nested = isinstance(Settings.model_fields[path[0]].default, BaseModel)
        subject = variable_of(*path[: 2 if nested else 1])
    else:
        subject = ".".join(path)
    # "Input should be a valid integer, unable to parse …": the first half says it all.
    reason = re.sub(r"^(Input|String|Value) ", "", details["msg"]).partition(", unable")[0]
    return [f"{subject} {reason}."]


def env_example() -> str:
    """`.env.example`: each setting with its description, commented out."""
    lines = [
        "# Settings of Darkroom. `make run` reads a file named .env beside this one; variables",
        "# of the environment take precedence. None is needed in development. A secret can be in a",
        "# file: DARKROOM_SECRET_FILE names one that has the value of DARKROOM_SECRET.",
        "# Generated by `.venv/bin/python -m settings > .env.example`.",
    ]
    for variable in variables():
        lines += [
            "",
            *wrap(variable.description, 88, initial_indent="# ", subsequent_indent="# "),
            f"# {variable.name}={_shown(variable.default)}",
        ]
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """The same as a Markdown table."""
    lines = ["| Variable | Default | What it decides |", "| --- | --- | --- |"]
    for variable in variables():
        default = _shown(variable.default)
        shown = f"`{default}`" if default else ""
        description = variable.description.replace("<", "&lt;")
        lines.append(f"| `{variable.name}` | {shown} | {description} |")
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return ",".join(cast(tuple[str, ...], default))
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)


if __name__ == "__main__":
    sys.stdout.write(markdown_table() if "--table" in sys.argv[1:] else env_example())
