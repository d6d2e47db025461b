"""Where Darkroom listens, who may connect, and how long it takes to start and to stop."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from settings.values import PREFIX, HttpUrl, InLowerCase, Names, Secret

_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(:(\*|[0-9]{1,5}))?")


class ServerSettings(BaseModel):
    environment: Annotated[Literal["development", "production"], InLowerCase] = Field(
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
    public_url: HttpUrl = Field(
        default="",
        description="The URL at which clients reach Darkroom, without a slash at the end; image "
        "URLs begin with it (default: http://<host>:<port>)",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="The address to listen on for operators: /metrics, /healthz and /readyz. Keep "
        "it unreachable for clients",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The port for /metrics, /healthz and /readyz; without it, there are no metrics",
    )
    traces: bool = Field(
        default=False,
        description="Whether traces are sent to an OpenTelemetry collector, as the standard "
        "variables OTEL_… configure; needs requirements/otel.txt",
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses or networks of the proxies in front of Darkroom, such as "
        "10.0.0.0/8, separated by commas: only their X-Forwarded-For is trusted",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="The host names that clients use for Darkroom, without a port, separated by "
        "commas; requests with another Host are answered with 400 (default: any in development, "
        "the host of DARKROOM_PUBLIC_URL in production)",
    )
    allowed_origins: Names = Field(
        default=(),
        description="Origins of browser apps that may call the API, separated by commas; * stands "
        "for any port (development default: any port of localhost and 127.0.0.1)",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], InLowerCase] = Field(
        default="info", description="The lowest level that is logged: debug, info, warning or error"
    )
    secret: Secret | None = Field(
        default=None,
        description="At least 32 random characters that sign cursors and URLs; development "
        "generates its own (needed in production)",
    )
    other_secret: Secret | None = Field(
        default=None,
        description="A second secret, whose signatures are also accepted, for rotating "
        "DARKROOM_SECRET",
    )
    start_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description="How many seconds a starting process waits for its database",
    )
    shutdown_grace: float = Field(
        default=20.0,
        ge=0,
        le=600,
        validation_alias=f"{PREFIX}GRACE",
        description="The grace period of a shutdown in seconds, for requests, and for runs that no "
        "other process can continue (default of a worker: 200)",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise PydanticCustomError(
                    "sentence",
                    "should list addresses and networks such as 10.0.0.0/8; {network} is not one",
                    {"network": repr(network)},
                ) from None
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "sentence",
                    "should list origins such as https://app.example.com, without a path; "
                    "{origin} is not one",
                    {"origin": repr(origin)},
                )
        return value


def origin_pattern(origins: Iterable[str]) -> str:
    """A regular expression that matches each allowed origin as a whole."""
    return "|".join(re.escape(origin).replace(r"\*", "[0-9]{1,5}") for origin in origins) or r"(?!)"
