"""Reads secrets from files, as orchestrators mount them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from pydantic import BaseModel
from pydantic_settings import EnvSettingsSource

from settings.variables import variables

ENV_FILE: Final = ".env"
FILE_SUFFIX: Final = "_FILE"
"""After the name of a secret setting: the variable names a file that contains its value."""


class SecretFiles(EnvSettingsSource):
    """Reads secrets from files, as orchestrators mount them: DARKROOM_SECRET_FILE names one."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        values, _ = read_secret_files(self.settings_cls, {**dotenv_values(ENV_FILE), **os.environ})
        return {name.lower(): value for name, value in values.items()}


def read_secret_files(
    settings: type[BaseModel], environ: Mapping[str, str | None]
) -> tuple[dict[str, str], list[str]]:
    """The values of secret settings that are in files, and what is wrong with those files."""
    given = {name.upper(): value for name, value in environ.items() if value}
    values: dict[str, str] = {}
    problems: list[str] = []
    for secret in (variable.name for variable in variables(settings) if variable.is_secret):
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
