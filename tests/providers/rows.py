"""Rows of the catalogue as one provider serves them, on whichever of their routes."""

from domain.models import ImageModel
from providers.catalogue import load_catalogue


def rows_of(provider: str) -> list[ImageModel]:
    """Where only this provider has credentials."""
    models = load_catalogue(rehearsals=False, with_credentials={provider})
    return [model for model in models.all() if model.provider == provider]
