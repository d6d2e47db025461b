"""Settings: everything that the environment decides, read once at the start and passed on.

Each module has the settings of one subject; `settings/settings.py` puts them together.
"""

from settings.identity import DEFAULT_TOKEN_ALGORITHMS, NO_AUTHORIZED_PARTY
from settings.limits import Limits
from settings.models import AzureSettings, ProviderSettings
from settings.reading import SettingsError, read_settings
from settings.secrets import load_or_create_secret, other_secrets_of, secret_of, secrets_in
from settings.server import origin_pattern
from settings.settings import Settings, settings_of_worker
from settings.values import PREFIX, TokenAlgorithm, may_fetch_keys_from
from settings.variables import variable_of, variables

__all__ = [
    "DEFAULT_TOKEN_ALGORITHMS",
    "NO_AUTHORIZED_PARTY",
    "PREFIX",
    "AzureSettings",
    "Limits",
    "ProviderSettings",
    "Settings",
    "SettingsError",
    "TokenAlgorithm",
    "load_or_create_secret",
    "may_fetch_keys_from",
    "origin_pattern",
    "other_secrets_of",
    "read_settings",
    "secret_of",
    "secrets_in",
    "settings_of_worker",
    "variable_of",
    "variables",
]
