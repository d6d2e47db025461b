"""What a viewer gets, and what is kept for how long."""

from pathlib import Path

from pydantic import BaseModel, Field

from settings.limits import Limits


class ProductSettings(BaseModel):
    starting_credits: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Credits that a new viewer starts with (development default: 10000, otherwise "
        "0)",
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
        description="The maximum size of an uploaded image in bytes",
    )
    restore_days: int = Field(
        default=0,
        ge=0,
        le=365,
        description="For how many days a deleted conversation can be restored; with 0 it is "
        "deleted immediately",
    )
    max_import_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        le=4_000_000_000,
        description="The maximum size of an imported export in bytes",
    )
    c2pa_certificate: Path | None = Field(
        default=None,
        description="A PEM file with the certificate that signs generated images (Content "
        "Credentials), followed by its chain; needs requirements/c2pa.txt",
    )
    c2pa_key: Path | None = Field(
        default=None,
        description="A PEM file with the private key of that certificate (needed with it)",
    )
    trusted_documents: Path | None = Field(
        default=None,
        description="A JSON file of GraphQL documents by id, which clients may name by "
        "`documentId` or by digest, in the format of graphql-codegen, Relay or an Apollo manifest",
    )
    only_trusted_documents: bool = Field(
        default=False, description="Whether all other documents are refused"
    )
    limit: Limits = Field(default=Limits())
