"""All settings of a process, and what depends on several of them."""

from collections.abc import Iterator
from functools import partial
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from settings.files import ENV_FILE, SecretFiles
from settings.identity import IdentitySettings, supports_discovery
from settings.models import ModelSettings
from settings.product import ProductSettings
from settings.server import ServerSettings
from settings.stores import StoreSettings, add_ca_file
from settings.values import PREFIX, is_loopback
from settings.variables import variable_of

NEEDED_IN_PRODUCTION: Final = (
    "mongodb_uri",
    "secret",
    "token_issuer",
)
WORKER_GRACE_SECONDS: Final = 200.0
_LOCAL_ORIGINS = (
    "http://localhost",
    "http://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
)


class Settings(
    # Pydantic takes the fields of the last base first: this is the order in which they are
    # documented.
    ModelSettings,
    ProductSettings,
    StoreSettings,
    IdentitySettings,
    ServerSettings,
    BaseSettings,
):
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by SecretFiles
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, SecretFiles(settings_cls)

    @model_validator(mode="after")
    def _check_and_complete(self) -> Self:
        problems = list(self._find_contradictions())
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
            self._fill("mongodb_uri", SecretStr(add_ca_file(uri, self.mongodb_ca_file)))
        if self.starting_credits is None:
            self._fill("starting_credits", 10_000 if self.environment == "development" else 0)
        if self.local_models is None:
            self._fill("local_models", self.environment == "development")
        return self

    def _fill(self, name: str, value: object) -> None:
        # A default that depends on other settings.
        self.__dict__[name] = value

    def _find_contradictions(self) -> Iterator[str]:
        variable = partial(variable_of, type(self))
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
            for name, field in IdentitySettings.model_fields.items():
                if getattr(self, name) != field.default:
                    yield (
                        f"{variable(name)} has no effect in development: leave it out, or set "
                        f"{PREFIX}ENVIRONMENT=production."
                    )
        else:
            yield from self._find_contradictions_of_production()

    def _find_contradictions_of_production(self) -> Iterator[str]:
        variable = partial(variable_of, type(self))
        for name in NEEDED_IN_PRODUCTION:
            if getattr(self, name) is None:
                yield f"{variable(name)} is needed in production."
        if self.token_issuer is None or supports_discovery(self.token_issuer):
            return
        if not self.jwks_url:
            yield (
                f"{variable('jwks_url')} is needed, since {variable('token_issuer')} is "
                "not an https URL that names it."
            )
        if self.studio_client_id:
            yield (
                f"{variable('studio_client_id')} cannot be used, since "
                f"{variable('token_issuer')} is not an https URL where people can sign in."
            )


def settings_of_worker(settings: Settings) -> Settings:
    """The same with the grace period of a worker: a run takes minutes, a request seconds."""
    if "shutdown_grace" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"shutdown_grace": WORKER_GRACE_SECONDS})
