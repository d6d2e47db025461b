"""`python -m serve` with the models as they were before they were retired: `python -m` this.

Wavespeed makes none that has not been, and how its jobs are come back to is to be tried all the
same. All the rest is production's; nothing imports this.
"""

import sys
from dataclasses import replace
from typing import Any

from assembly import catalogue
from domain.models import ModelRegistry
from providers.catalogue import load_catalogue
from serve import main


def unretired(**options: Any) -> ModelRegistry:
    """The catalogue without days."""
    return ModelRegistry(
        replace(model, retires_at=None, unavailable_reason=None) if model.retired else model
        for model in load_catalogue(**options).all()
    )


if __name__ == "__main__":
    setattr(catalogue, "load_catalogue", unretired)  # noqa: B010 - it is a function
    sys.exit(main())
