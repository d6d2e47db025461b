"""Settings: everything that the environment decides, read once at the entrance and passed on.

`python -m settings` prints `.env.example`, `python -m settings --table` the same as Markdown.
"""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from textwrap import wrap
from typing import Annotated, Any, Final, Literal, Self, cast
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final = "DARKROOM_"
TEST_PREFIX: Final = "DARKROOM_TEST_"
ENV_FILE: Final = ".env"
WORKER_GRACE_SECONDS: Final = 200.0
NEEDED_IN_PRODUCTION: Final = (
    "mongodb_uri",
    "secret",
    "jwks_url",
    "token_issuer",
    "token_audience",
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
    """The environment does not say what is needed. `problems` are sentences for a person."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_PROVIDERS: Final = ("fal", "openai", "gemini", "openrouter", "replicate", "wavespeed")
_PROVIDERS_KEYS: Final = [f"{name}_key" for name in _PROVIDERS]
_PROVIDERS_URLS: Final = [f"{name}_url" for name in _PROVIDERS]


def _key_of(account: str, whose: str) -> Any:
    return Field(
        default=None,
        description=f"The key of {account}; without it, {whose} models are shown but cannot be "
        "used",
    )


def _url_of(what: str, default: str) -> Any:
    return Field(
        default=default,
        description=f"Where {what} is; plain http on loopback only, which is for a simulator",
    )


def _places_at(provider: str) -> Any:
    return Field(
        default=20,
        ge=1,
        le=1000,
        description=f"How many outputs one process may have at {provider} at the same time",
    )


class Settings(BaseSettings):
    """What a person may decide about one Darkroom process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    environment: Literal["development", "production"] = Field(
        default="development",
        description="Development answers on this machine only and issues tokens for itself; "
        "production takes tokens from elsewhere and needs the settings marked so",
    )
    host: str = Field(
        default="127.0.0.1", description="The address to listen on; in development a loopback one"
    )
    port: int = Field(default=8000, ge=1, le=65535, description="The port to listen on")
    public_url: str = Field(
        default="",
        description="How clients reach Darkroom, without a slash at the end; links to images begin "
        "with it (default: http://<host>:<port>)",
    )
    data_dir: Path = Field(
        default=Path(".data"),
        description="The folder that keeps images, and in development the database and the keys",
    )
    mongodb_uri: SecretStr | None = Field(
        default=None,
        description="The MongoDB replica set to use; without it, development starts a mongod of "
        "its own (needed in production)",
    )
    mongodb_database: str = Field(
        default="darkroom",
        description="The database's name",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of browser apps that may call, separated by commas; a * stands for "
        "any port (development default: any port of localhost and 127.0.0.1)",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much to log: debug, info, warning or error"
    )
    secret: SecretStr | None = Field(
        default=None,
        description="At least 32 random characters that seal cursors and links; development makes "
        "its own (needed in production)",
    )
    jwks_url: str | None = Field(
        default=None,
        description="Where the token issuer publishes its keys, https (needed in production, only "
        "used there)",
    )
    token_issuer: str | None = Field(
        default=None,
        min_length=1,
        description="The `iss` of accepted tokens (needed in production, only used there)",
    )
    token_audience: str | None = Field(
        default=None,
        min_length=1,
        description="The `aud` of accepted tokens (needed in production, only used there)",
    )
    s3_bucket: str | None = Field(
        default=None,
        description="The bucket that keeps images; without it, they are kept in the data folder",
    )
    s3_endpoint: str = Field(
        default="",
        description="The origin of the server that has the bucket, any that speaks the S3 API "
        "(default: https://s3.<region>.amazonaws.com)",
    )
    s3_public_endpoint: str = Field(
        default="",
        description="The same as clients reach it, if they do in another way",
    )
    s3_region: str = Field(
        default="us-east-1", description="The bucket's region; where there are none, leave it"
    )
    s3_key_id: str | None = Field(
        default=None, description="The id of an access key for the bucket (needed with a bucket)"
    )
    s3_secret: SecretStr | None = Field(
        default=None, description="The access key's secret (needed with a bucket)"
    )
    s3_addressing: Literal["path", "virtual"] | None = Field(
        default=None,
        description="Where the bucket's name stands in addresses: in the path, or before the "
        "server's name (default: virtual at amazonaws.com, else path)",
    )
    s3_seconds: float = Field(
        default=20.0,
        gt=0,
        le=300,
        description="Seconds that one call of the bucket may take, its repetition included",
    )
    nats_url: SecretStr | None = Field(
        default=None,
        description="The NATS server, with JetStream, that tells worker processes what there is to "
        "run (nats:// or tls://; servers of a cluster separated by commas); without it, the "
        "process that answers requests runs outputs itself",
    )
    starting_credits: int | None = Field(
        default=None,
        ge=0,
        description="Credits that a viewer seen for the first time is given (development default: "
        "10000, else 0)",
    )
    max_active_outputs: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="How many outputs of one viewer may be at work at the same time",
    )
    max_upload_bytes: int = Field(
        default=5_000_000,
        ge=1,
        le=50_000_000,
        description="How many bytes an image may have that a viewer uploads",
    )
    fal_key: SecretStr | None = _key_of("an account at fal.ai", "fal's")
    fal_url: str = _url_of("fal's queue", "https://queue.fal.run")
    fal_places: int = _places_at("fal")
    openai_key: SecretStr | None = _key_of("an OpenAI account", "OpenAI's")
    openai_url: str = _url_of("OpenAI's API", "https://api.openai.com/v1")
    openai_places: int = _places_at("OpenAI")
    azure_key: SecretStr | None = _key_of("an Azure OpenAI resource", "its")
    azure_url: str | None = Field(
        default=None,
        description="The origin of the Azure OpenAI resource, such as "
        "https://name.openai.azure.com; goes with its key",
    )
    azure_api_version: str = Field(
        default="preview",
        description="`preview`, or nothing, for Azure's v1 addresses; a date for those with the "
        "deployment in them",
    )
    azure_deployments: Annotated[dict[str, str], NoDecode] = Field(
        default={},
        description="What deployments are called, such as gpt-image-2=ours, separated by commas; "
        "a model that is not named has a deployment of its own name",
    )
    azure_places: int = _places_at("Azure")
    gemini_key: SecretStr | None = _key_of("a Google AI account", "Gemini's")
    gemini_url: str = _url_of(
        "the Gemini API, without its version", "https://generativelanguage.googleapis.com"
    )
    gemini_places: int = _places_at("Gemini")
    openrouter_key: SecretStr | None = _key_of("an OpenRouter account", "its")
    openrouter_url: str = _url_of("OpenRouter's API", "https://openrouter.ai/api/v1")
    openrouter_places: int = _places_at("OpenRouter")
    replicate_key: SecretStr | None = _key_of("a Replicate account", "its")
    replicate_url: str = _url_of("Replicate's API", "https://api.replicate.com/v1")
    replicate_places: int = _places_at("Replicate")
    wavespeed_key: SecretStr | None = _key_of("a Wavespeed account", "its")
    wavespeed_url: str = _url_of("Wavespeed's API", "https://api.wavespeed.ai/api/v3")
    wavespeed_places: int = _places_at("Wavespeed")
    shutdown_grace: float = Field(
        default=20.0,
        ge=0,
        le=600,
        validation_alias=f"{PREFIX}GRACE",
        description="Seconds that requests, and runs that nobody else could go on with, get to "
        "end when Darkroom is stopped (default of a worker: 200)",
    )

    @field_validator("environment", "log_level", "s3_addressing", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _from_the_root(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator(
        "public_url", "jwks_url", "azure_url", "s3_endpoint", "s3_public_endpoint", *_PROVIDERS_URLS
    )
    @classmethod
    def _an_http_url(cls, value: str | None) -> str | None:
        if not value:
            return value
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise PydanticCustomError("sentence", "should be an http or https URL")
        return value.rstrip("/")

    @field_validator("jwks_url", "azure_url", *_PROVIDERS_URLS)
    @classmethod
    def _not_in_the_clear(cls, value: str | None) -> str | None:
        if value and not may_fetch_keys_from(value):
            raise PydanticCustomError("sentence", "should begin with https://")
        return value

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _an_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if url.path or url.username is not None:
            raise PydanticCustomError("sentence", "should be an origin, without a path")
        # Links are signed with the server's name as clients send it: small, and no default port.
        default = {"http": ":80", "https": ":443"}.get(url.scheme, "-")
        return f"{url.scheme}://{url.netloc.lower().removesuffix(default)}" if value else value

    @field_validator("s3_bucket", "s3_region")
    @classmethod
    def _a_name_of_s3(cls, value: str | None) -> str | None:
        if value and not _BUCKET.fullmatch(value):
            raise PydanticCustomError(
                "sentence", "should be 3 to 63 small letters, digits, dots or -"
            )
        return value

    @field_validator("azure_key", "s3_secret", *_PROVIDERS_KEYS)
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        # It becomes part of a header: what does not fit there would be quoted by an error.
        if value and not _KEY.fullmatch(value.get_secret_value()):
            raise PydanticCustomError("sentence", "should be letters, digits and signs, no spaces")
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

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < 32:
            raise PydanticCustomError("sentence", "should have at least 32 characters")
        return value

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("azure_deployments", mode="before")
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

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "sentence",
                    "should list origins such as https://app.example.com, without a path; "
                    "{origin} is none",
                    {"origin": repr(origin)},
                )
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise PydanticCustomError("sentences", "{text}", {"text": "\n".join(problems)})
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
        if self.starting_credits is None:
            self._fill("starting_credits", 10_000 if self.environment == "development" else 0)
        return self

    def _fill(self, name: str, value: object) -> None:
        # What follows from other settings is settled here once, before anybody sees the object.
        self.__dict__[name] = value

    def _contradictions(self) -> Iterator[str]:
        if (self.azure_key is None) != (self.azure_url is None):
            yield f"{PREFIX}AZURE_KEY and {PREFIX}AZURE_URL go together."
        of_bucket = [self.s3_bucket, self.s3_key_id, self.s3_secret]
        if any(of_bucket) and not all(of_bucket):
            yield f"{PREFIX}S3_BUCKET, {PREFIX}S3_KEY_ID and {PREFIX}S3_SECRET go together."
        if self.environment == "development":
            if not is_loopback(self.host):
                yield (
                    f"{PREFIX}HOST={self.host} can be reached from other machines, and in "
                    "development anybody could issue tokens: use 127.0.0.1, or set "
                    f"{PREFIX}ENVIRONMENT=production."
                )
            for name in ("jwks_url", "token_issuer", "token_audience"):
                if getattr(self, name) is not None:
                    yield (
                        f"{variable_of(name)} has no effect in development: leave it out, or set "
                        f"{PREFIX}ENVIRONMENT=production."
                    )
        else:
            for name in NEEDED_IN_PRODUCTION:
                if getattr(self, name) is None:
                    yield f"{variable_of(name)} is needed in production."


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or a `SettingsError` that names all that is wrong.

    `environ` serves only to find variables that nobody reads; values come from the process.
    """
    try:
        of_file = dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{ENV_FILE} cannot be read: {error}."]) from error
    problems = list(_unknown({**of_file, **(os.environ if environ is None else environ)}))
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [line for details in error.errors() for line in _sentences(details)]
    if problems:
        raise SettingsError(problems)
    return settings


def settings_of_worker(settings: Settings) -> Settings:
    """A worker waits longer: a run takes minutes where a request takes seconds."""
    if "shutdown_grace" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"shutdown_grace": WORKER_GRACE_SECONDS})


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def may_fetch_keys_from(url: str) -> bool:
    """Keys decide who is let in, and who pays: over the network they travel through TLS only."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


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


def secret_of(settings: Settings) -> bytes:
    """The key that seals cursors and links. Development keeps one of its own in the data folder."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return keep_secret(settings.data_dir / "secret", lambda: token_urlsafe(32).encode())


def keep_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file that only its owner can read; made where there is none.

    Of two processes that make it at once, one wins and both return the winner's.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # Written whole under another name first: nobody ever reads half a key.
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


def _unknown(environ: Mapping[str, str | None]) -> Iterator[str]:
    known = {variable_of(name) for name in Settings.model_fields}
    for name in sorted(environ):
        variable = name.upper()
        if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
            continue
        if variable not in known:
            meant = get_close_matches(
                variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known], n=1
            )
            hint = f"Did you mean {PREFIX}{meant[0]}?" if meant else "See .env.example."
            yield f"{name} is not a setting of Darkroom. {hint}"


def _sentences(details: ErrorDetails) -> list[str]:
    if details["type"] == "sentences":
        return details["msg"].splitlines()
    location = str(details["loc"][0]) if details["loc"] else ""
    variable = variable_of(location) if location in Settings.model_fields else location
    # "Input should be a valid integer, unable to parse …": the first half says it all.
    reason = re.sub(r"^(Input|String|Value) ", "", details["msg"]).partition(", unable")[0]
    return [f"{variable} {reason}."]


def env_example() -> str:
    """`.env.example`: each setting with what it is for, switched off."""
    lines = [
        "# Settings of Darkroom. `make run` reads a file named .env beside this one;",
        "# a variable of the environment goes before it. None is needed in development.",
        "# Made by `.venv/bin/python -m settings > .env.example`.",
    ]
    for name, field in Settings.model_fields.items():
        lines += [
            "",
            *wrap(field.description or "", 88, initial_indent="# ", subsequent_indent="# "),
        ]
        lines.append(f"# {variable_of(name)}={_shown(field.default)}")
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """The same for people: one table."""
    lines = ["| Variable | Default | What it decides |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = _shown(field.default)
        shown = f"`{default}`" if default else ""
        description = (field.description or "").replace("<", "&lt;")
        lines.append(f"| `{variable_of(name)}` | {shown} | {description} |")
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
