"""For development: `python -m commands.token ana` prints a token for the viewer ana."""

import sys

from edge.dev_tokens import DevelopmentIssuer
from settings import PREFIX, SettingsError, read_settings


def main(arguments: list[str]) -> int:
    """Print a token for the named viewer."""
    try:
        if len(arguments) != 1:
            raise SettingsError(["Usage: python -m commands.token NAME"])
        settings = read_settings()
        if settings.environment != "development":
            raise SettingsError(
                [f"{PREFIX}ENVIRONMENT is production: its tokens come from {PREFIX}TOKEN_ISSUER."]
            )
        print(DevelopmentIssuer(settings.data_dir).token(arguments[0]))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"No token: {error}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
