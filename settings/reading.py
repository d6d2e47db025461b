"""Reads the settings of this process, and says in sentences what is wrong with them."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from settings.files import ENV_FILE, FILE_SUFFIX, read_secret_files
from settings.settings import Settings
from settings.values import PREFIX
from settings.variables import variable_of, variables

TEST_PREFIX: Final = "DARKROOM_TEST_"


class SettingsError(Exception):
    """The settings are incomplete or wrong. `problems` are sentences for a person."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or a `SettingsError` that names everything that is wrong.

    `environ` is only searched for unknown variables; values come from the process.
    """
    try:
        file_values = dotenv_values(ENV_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{ENV_FILE} cannot be read: {error}."]) from error
    given = {**file_values, **(os.environ if environ is None else environ)}
    problems = [*_find_unknown_variables(given), *read_secret_files(Settings, given)[1]]
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [line for details in error.errors() for line in _describe(details)]
    if problems:
        raise SettingsError(problems)
    return settings


def _find_unknown_variables(environ: Mapping[str, str | None]) -> Iterator[str]:
    known = {variable.name for variable in variables(Settings)}
    known |= {variable.name + FILE_SUFFIX for variable in variables(Settings) if variable.is_secret}
    for name in sorted(environ):
        variable = name.upper()
        if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
            continue
        if variable not in known:
            matches = get_close_matches(
                variable.removeprefix(PREFIX),
                sorted(name.removeprefix(PREFIX) for name in known),
                n=1,
            )
            hint = f"Did you mean {PREFIX}{matches[0]}?" if matches else "See .env.example."
            yield f"{name} is not a setting of Darkroom. {hint}"


def _describe(details: ErrorDetails) -> list[str]:
    if details["type"] == "sentences":
        return details["msg"].splitlines()
    path = [str(step) for step in details["loc"]]
    if path and path[0] in Settings.model_fields:
        nested = isinstance(Settings.model_fields[path[0]].default, BaseModel)
        subject = variable_of(Settings, *path[: 2 if nested else 1])
    else:
        subject = ".".join(path)
    # "Input should be a valid integer, unable to parse …": the first half is enough.
    reason = re.sub(r"^(Input|String|Value) ", "", details["msg"]).partition(", unable")[0]
    return [f"{subject} {reason}."]
